"""Talks are got in as few calls as can be, and one bad id spoils no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.getting import available, operation_of, reason_of, status_of, talks
from airflow_provider_speechsense.api.models import Operation, ProcessingState
from airflow_provider_speechsense.exceptions import (
    InvalidRequestError,
    MessageTooLargeError,
    NotFoundError,
    PermissionDeniedError,
    ServiceUnavailableError,
    SpeechSenseError,
)

Talk = protos.speechsense.Talk
IDS = [f"t{i}" for i in range(1, 251)]
INTERNAL = ServiceUnavailableError("broken", code="INTERNAL")


class Service:
    """Gives talks by id, unless ``refuse`` says how not; remembers how many were asked for at a time."""

    def __init__(self, refuse: Callable[[list[str]], SpeechSenseError | None] = lambda ids: None) -> None:
        self.refuse = refuse
        self.sizes: list[int] = []
        self.missing: set[str] = set()

    def __call__(self, ids: list[str]) -> Iterable[Any]:
        self.sizes.append(len(ids))
        error = self.refuse(ids)
        if error:
            raise error
        return [Talk(id=i) for i in ids if i not in self.missing]


def poisoned(error: SpeechSenseError, *bad: str) -> Service:
    return Service(lambda ids: error if set(bad) & set(ids) else None)


def got(service: Service, ids: list[str]) -> list[str]:
    return [talk["id"] for talk in talks(service, ids)]


def got_before(error: type[SpeechSenseError], service: Service, ids: list[str]) -> tuple[list[str], Any]:
    """Return the ids that came before the error, and the error."""
    found: list[str] = []
    with pytest.raises(error) as caught:
        found.extend(talk["id"] for talk in talks(service, ids))
    return found, caught.value


def test_250_talks_take_three_calls() -> None:
    service = Service()
    assert got(service, IDS) == IDS
    assert service.sizes == [100, 100, 50]


def test_ids_that_the_answer_lacks_are_named_after_all_that_were_found() -> None:
    service = Service()
    service.missing = {"t7", "t200"}
    found, error = got_before(NotFoundError, service, IDS)
    assert found == [i for i in IDS if i not in service.missing]
    assert error.ids == ("t7", "t200")


def test_an_answer_that_is_too_large_is_halved_until_it_fits() -> None:
    service = Service(lambda ids: MessageTooLargeError("too large") if len(ids) > 30 else None)
    assert got(service, IDS[:100]) == IDS[:100]
    assert service.sizes == [100, 50, 25, 25, 50, 25, 25]


def test_one_talk_that_is_too_large_alone_is_named_and_the_others_are_given() -> None:
    service = poisoned(MessageTooLargeError("over the limit"), "t3")
    found, error = got_before(MessageTooLargeError, service, IDS[:5])
    assert found == ["t1", "t2", "t4", "t5"]
    assert str(error).startswith("Talk t3: over the limit")


@pytest.mark.parametrize(
    "error",
    [NotFoundError("no such talk"), InvalidRequestError("bad id"), INTERNAL],
    ids=lambda error: type(error).__name__,
)
def test_one_id_that_spoils_its_batch_is_found_by_halving(error: SpeechSenseError) -> None:
    service = poisoned(error, "t42")
    found, _ = got_before(type(error), service, IDS[:100])
    assert found == [i for i in IDS[:100] if i != "t42"]
    assert len(service.sizes) <= 15


def test_unknown_ids_that_the_error_names_are_left_out_at_once() -> None:
    # Not t2, nor t3, whose names are within the others'.
    service = poisoned(NotFoundError("Talks not found: t20, t30"), "t20", "t30")
    found, error = got_before(NotFoundError, service, IDS[:100])
    assert found == [i for i in IDS[:100] if i not in {"t20", "t30"}]
    assert service.sizes == [100, 98]
    assert error.ids == ("t20", "t30")


def test_a_batch_of_which_all_are_named_unknown_is_not_asked_for_again() -> None:
    service = poisoned(NotFoundError("Talks not found: t1, t2"), "t1", "t2")
    assert got_before(NotFoundError, service, ["t1", "t2"])[0] == []
    assert service.sizes == [2]


def test_a_call_that_fails_whatever_the_ids_is_given_up_soon() -> None:
    service = Service(lambda ids: InvalidRequestError("no such project"))
    found, error = got_before(InvalidRequestError, service, IDS)
    assert found == []
    assert len(service.sizes) < 15
    assert str(error).startswith("no such project")


def test_a_single_id_that_is_refused_is_the_error_itself() -> None:
    service = poisoned(INTERNAL, "t1")
    assert got_before(ServiceUnavailableError, service, ["t1"])[1] is INTERNAL
    assert service.sizes == [1]


@pytest.mark.parametrize(
    "error", [PermissionDeniedError("no role"), ServiceUnavailableError("down", code="UNAVAILABLE")]
)
def test_what_no_id_can_be_the_cause_of_is_raised_at_once(error: SpeechSenseError) -> None:
    service = Service(lambda ids: error)
    got_before(type(error), service, IDS)
    assert service.sizes == [100]


def test_available_talks_are_given_and_what_is_wrong_with_others_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = poisoned(InvalidRequestError("malformed"), "t2")
    service.missing = {"t3"}
    with caplog.at_level(logging.WARNING):
        assert [talk.id for talk in available(service, ["t1", "t2", "t3", "t4"])] == ["t1", "t4"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("Talk t2: malformed")


# --- reading answers


def talk_with(state: int, **algorithms: int) -> Any:
    talk = Talk(id="t1")
    talk.talk_state.processing_state = state
    for name, value in algorithms.items():
        number = protos.speechsense.Algorithm.Value(f"ALGORITHM_{name}")
        talk.talk_state.algorithm_processing_infos.add(algorithm=number, processing_state=value)
    return talk


def test_a_status_has_the_states_of_the_talk_and_its_algorithms() -> None:
    status = status_of(talk_with(2, SPEECHKIT=3, CLASSIFIER=1))
    assert status.talk_id == "t1"
    assert status.state is ProcessingState.PROCESSING
    assert status.algorithms == {
        "SPEECHKIT": ProcessingState.SUCCESS,
        "CLASSIFIER": ProcessingState.NOT_STARTED,
    }


def test_a_state_that_is_unknown_is_not_finished_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert status_of(talk_with(9)).state is ProcessingState.UNSPECIFIED
    assert "PROCESSING_STATE 9, which this release does not know" in caplog.text


def test_an_algorithm_that_is_unknown_goes_by_its_number(caplog: pytest.LogCaptureFixture) -> None:
    talk = talk_with(3)
    talk.talk_state.algorithm_processing_infos.add(algorithm=8, processing_state=3)
    assert status_of(talk).algorithms == {"8": ProcessingState.SUCCESS}


def test_the_reason_of_a_failure_is_in_the_services_own_words() -> None:
    talk = Talk()
    assert reason_of(talk) is None
    traces = talk.transcription.algorithms_metadata
    traces.add(name="translator")
    traces.add(
        name="speechkit", trace_id="0d3d", error={"code": "INVALID_ARGUMENT", "message": "audio is broken"}
    )
    traces.add(error={"message": "no idea"})
    assert reason_of(talk) == (
        "speechkit: INVALID_ARGUMENT audio is broken (trace id 0d3d); an algorithm: no idea"
    )


def test_an_operation_is_a_record_of_plain_python() -> None:
    message = protos.operation.Operation(id="o1", description="cutting")
    assert operation_of(message) == Operation("o1", description="cutting")
    message.done = True
    message.created_at.FromSeconds(1_748_736_000)
    message.metadata.Pack(protos.speechsense.UploadBadgeMetadata(badge_id="b1"))
    message.response.Pack(protos.speechsense.UploadBadgeResponse(badge_id="b1", talk_ids=["t1"]))
    assert operation_of(message) == Operation(
        "o1",
        done=True,
        description="cutting",
        created_at="2025-06-01T00:00:00Z",
        metadata={"badge_id": "b1"},
        response={"badge_id": "b1", "talk_ids": ["t1"]},
    )


@pytest.mark.parametrize(("code", "name"), [(3, "INVALID_ARGUMENT"), (99, "99")])
def test_an_operations_error_has_text_and_code(code: int, name: str) -> None:
    message = protos.operation.Operation(id="o1", error={"code": code, "message": "unsupported"})
    found = operation_of(message)
    assert (found.error, found.error_code, found.response) == ("unsupported", name, None)
