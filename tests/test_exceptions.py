from __future__ import annotations

import pickle

import pytest

from airflow_provider_speechsense import exceptions
from airflow_provider_speechsense.exceptions import (
    InvalidChatError,
    InvalidMetadataError,
    InvalidRequestError,
    NotFoundError,
    OperationFailedError,
    ServiceUnavailableError,
    SpeechSenseError,
    TalkFailedError,
)

EVERY_KIND = [
    kind
    for kind in vars(exceptions).values()
    if isinstance(kind, type) and issubclass(kind, SpeechSenseError) and not kind.__name__.startswith("_")
]

ONE_OF_EACH = [
    InvalidMetadataError(["a", "b"]),
    InvalidRequestError("no", violations=["x"], hint="mend x."),
    NotFoundError("no", ids=["t1"], method="TalkService/Get"),
    TalkFailedError("no", reasons={"t1": "broken"}),
    OperationFailedError("no", operation_id="o1", code="INTERNAL"),
    ServiceUnavailableError("no", retryable=False, request_id="r1"),
]


def test_a_text_says_what_happened_then_the_facts_then_what_to_do() -> None:
    error = ServiceUnavailableError(
        "No connection.",
        method="TalkService/Get",
        endpoint="host:443",
        code="UNAVAILABLE",
        request_id="r1",
        server_request_id="r2",
        hint="check the host.",
    )
    assert str(error) == (
        "No connection. (TalkService/Get on host:443, UNAVAILABLE, request id r1, server request id r2). "
        "What to do: check the host."
    )


def test_what_is_not_known_is_not_in_the_text() -> None:
    assert str(SpeechSenseError("Broken.")) == "Broken."
    assert str(SpeechSenseError("Broken.", hint="mend it.")) == "Broken. What to do: mend it."


def test_a_hint_given_takes_the_place_of_the_kinds_own() -> None:
    assert "granted" not in str(exceptions.AuthenticationError("no", hint="log in."))
    assert exceptions.AuthenticationError("no").hint == exceptions.AuthenticationError.default_hint


def test_what_may_pass_by_itself_is_retryable_and_nothing_else() -> None:
    assert {kind.__name__ for kind in EVERY_KIND if kind.default_retryable} == {
        "DeadlineExceededError",
        "LedgerReadError",
        "QuotaExceededError",
        "ServiceUnavailableError",
        "SourceReadError",
    }


def test_an_upload_that_may_have_arrived_is_not_retryable_because_a_second_one_is_a_second_talk() -> None:
    assert not exceptions.UnknownUploadOutcomeError("broke off").retryable


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_whole(error: SpeechSenseError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_every_violation_is_in_the_text() -> None:
    error = InvalidMetadataError(["date: is none.", "score: too long."])
    assert str(error) == (
        "Talk metadata: 2 faults, nothing was sent:\n  - date: is none.\n  - score: too long."
    )
    assert str(InvalidMetadataError(["one."])).startswith("Talk metadata: 1 fault, ")


def test_ten_thousand_violations_are_kept_but_not_all_written_out() -> None:
    error = InvalidChatError([f"message {i}: no text." for i in range(10_000)])
    assert len(error.violations) == 10_000
    assert len(str(error).splitlines()) == 52
    assert str(error).endswith("and 9950 more.")
