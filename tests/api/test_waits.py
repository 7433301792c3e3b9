"""A wait looks at the service as long as there is something to wait for, and its event says how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_speechsense.api import SpeechSenseClient
from airflow_provider_speechsense.api.models import Algorithm
from airflow_provider_speechsense.api.polling import MAX_FAILURES_IN_A_ROW, Pending
from airflow_provider_speechsense.api.retry import ONE_ATTEMPT
from airflow_provider_speechsense.api.waits import BadgeWait, Event, TalkWait, Wait, conclude, error_event
from airflow_provider_speechsense.emulator import BadgeFault, Emulator, Fault, ManualClock, TalkFault
from airflow_provider_speechsense.exceptions import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    NotFoundError,
    OperationFailedError,
    ServiceUnavailableError,
    SpeechSenseError,
    TalkFailedError,
)
from tests.api.support import CHAT, CHAT_METADATA, METADATA, wav

#: Three conversations with long pauses between.
BADGE = Path(__file__).parents[2] / "example_dags" / "data" / "badge.wav"
#: More than the emulator takes for anything, in seconds.
LONG = 60.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def emulator(clock: ManualClock, start_emulator: Callable[..., Emulator]) -> Emulator:
    return start_emulator(clock=clock, get_quota=())


@pytest.fixture
def client(connect: Callable[..., SpeechSenseClient], emulator: Emulator) -> SpeechSenseClient:
    return connect(emulator, retry=ONE_ATTEMPT)


def talks(*talk_ids: str, clock: ManualClock, **changes: Any) -> TalkWait:
    arguments = {"poll_interval": 10, "end_time": clock() + 3600, "visible_by": clock() + 600, **changes}
    return TalkWait(talk_ids, **arguments)


def look_until_the_end(wait: Wait, client: SpeechSenseClient, clock: ManualClock) -> Event:
    while isinstance(found := wait.look(client, clock()), Pending):
        clock.advance(found.seconds)
    assert json.loads(json.dumps(found)) == found, "events travel as JSON"
    return found


def upload(client: SpeechSenseClient) -> str:
    return client.upload(wav(), METADATA)


def upload_chat(client: SpeechSenseClient) -> str:
    return client.upload_text(CHAT, CHAT_METADATA)


# --- talks


def test_talks_are_waited_for_until_all_are_analysed(client: SpeechSenseClient, clock: ManualClock) -> None:
    first = upload(client)
    clock.advance(1)
    second = upload_chat(client)
    wait = talks(second, first, clock=clock)
    pending = wait.look(client, clock())
    assert isinstance(pending, Pending)
    assert pending.seconds == 10
    assert look_until_the_end(wait, client, clock) == {"status": "success", "talk_ids": [second, first]}


def test_a_look_asks_only_for_states_and_only_for_what_is_pending(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    early = upload(client)
    clock.advance(LONG)
    late = upload(client)
    look_until_the_end(talks(early, late, clock=clock), client, clock)
    requests = [call.request for call in emulator.calls if call.method == "TalkService/Get"]
    assert [list(request.talk_ids) for request in requests] == [[early, late], [late]]
    assert {tuple(request.results_mask.paths) for request in requests} == {("talk_state",)}


def test_an_algorithm_is_not_waited_for_longer_than_it_takes(
    client: SpeechSenseClient, clock: ManualClock
) -> None:
    talk_id = upload(client)
    # The emulator has recognised the speech then, and goes on with the statistics.
    clock.advance(1)
    assert isinstance(talks(talk_id, clock=clock).look(client, clock()), Pending)
    assert talks(talk_id, clock=clock, wait_for=["speechkit"]).look(client, clock()) == {
        "status": "success",
        "talk_ids": [talk_id],
    }


def test_a_failed_talk_is_named_with_algorithm_and_text_after_the_others_are_done(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.script(TalkFault(algorithm=Algorithm.SPEECHKIT, message="the recording is silent"))
    failed, good = upload(client), upload(client)
    event = look_until_the_end(talks(failed, good, clock=clock), client, clock)
    assert event["status"] == "failed"
    assert event["talk_ids"] == [good]
    (reason,) = event["reasons"].values()
    assert "failed in SPEECHKIT: " in reason
    assert "INTERNAL the recording is silent" in reason
    assert event["message"] == f"SpeechSense could not analyse 1 of 2 talks: {failed} {reason}"


def test_a_failure_without_words_is_told_all_the_same(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.script(TalkFault(algorithm=Algorithm.SPEECHKIT))
    failed = upload(client)
    clock.advance(LONG)
    # The look is answered, the question for the reason is not.
    emulator.script(Fault(method="TalkService/Get", code="UNAVAILABLE", after=1))
    event = look_until_the_end(talks(failed, clock=clock), client, clock)
    assert event["reasons"] == {failed: "failed in SPEECHKIT: the service gives no reason"}


def test_of_many_failures_the_first_are_told(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.script(TalkFault(algorithm=Algorithm.CLASSIFIER, count=23))
    failed = [upload_chat(client) for _ in range(23)]
    event = look_until_the_end(talks(*failed, clock=clock), client, clock)
    assert event["message"].startswith("SpeechSense could not analyse 23 of 23 talks: ")
    assert event["message"].endswith("; and 3 more")
    assert list(event["reasons"]) == failed


def test_a_talk_may_be_unknown_at_first(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.script(TalkFault(hidden_seconds=300))
    talk_id = upload(client)
    event = look_until_the_end(talks(talk_id, clock=clock), client, clock)
    assert event == {"status": "success", "talk_ids": [talk_id]}


def test_a_talk_that_stays_unknown_ends_the_wait(client: SpeechSenseClient, clock: ManualClock) -> None:
    event = look_until_the_end(talks("aud00nowhere", clock=clock, visible_by=clock() + 30), client, clock)
    assert event["status"] == "error"
    assert event["retryable"] is False
    assert "does not know the talks aud00nowhere" in event["message"]


def test_a_state_of_a_later_release_is_waited_out(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.script(TalkFault(unknown_state=True))
    talk_id = upload(client)
    clock.advance(LONG)
    assert look_until_the_end(talks(talk_id, clock=clock), client, clock)["status"] == "timeout"


def test_passing_errors_are_ridden_out(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    talk_id = upload(client)
    emulator.script(Fault(method="TalkService/Get", code="UNAVAILABLE", count=MAX_FAILURES_IN_A_ROW - 1))
    assert look_until_the_end(talks(talk_id, clock=clock), client, clock)["status"] == "success"


@pytest.mark.parametrize(("code", "looks"), [("UNAVAILABLE", MAX_FAILURES_IN_A_ROW), ("UNAUTHENTICATED", 1)])
def test_an_error_that_stays_or_cannot_pass_ends_the_wait(
    code: str, looks: int, client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    talk_id = upload(client)
    emulator.script(Fault(method="TalkService/Get", code=code, count=None))
    event = look_until_the_end(talks(talk_id, clock=clock), client, clock)
    assert event["status"] == "error"
    assert event["retryable"] is (looks > 1)
    assert len([call for call in emulator.calls if call.method == "TalkService/Get"]) == looks


def test_the_deadline_ends_the_wait_and_names_what_is_pending(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.script(TalkFault(hidden_seconds=LONG, count=12))
    talk_ids = [upload(client) for _ in range(12)]
    began = clock()
    event = look_until_the_end(talks(*talk_ids, clock=clock, end_time=clock() + 25), client, clock)
    assert clock() - began == 25
    assert event["status"] == "timeout"
    assert f"{talk_ids[0]}, {talk_ids[1]}" in event["message"]
    assert "and 2 more" in event["message"]
    assert "wait again with a sensor" in event["hint"]


def test_the_scope_goes_with_every_question(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    talk_id = upload(client)
    look_until_the_end(
        talks(talk_id, clock=clock, scope={"space_id": "s2", "project_id": "p2"}), client, clock
    )
    request = emulator.calls[-1].request
    assert (request.space_id, request.project_id) == ("s2", "p2")


def test_an_algorithm_that_is_none_is_refused(clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError, match="wait_for names MAGIC"):
        talks("t1", clock=clock, wait_for=["MAGIC"])
    with pytest.raises(ConfigurationError, match="wait_for names MAGIC"):
        BadgeWait("o1", wait_for=["MAGIC"], poll_interval=10, end_time=1)


# --- badges


def badge(operation_id: str, clock: ManualClock, **changes: Any) -> BadgeWait:
    return BadgeWait(operation_id, **{"poll_interval": 10, "end_time": clock() + 3600, **changes})


def test_a_badge_is_waited_for_until_its_talks_are_analysed(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    operation = client.upload_badge(BADGE, METADATA)
    event = look_until_the_end(badge(operation.id, clock), client, clock)
    assert event == {
        "status": "success",
        "operation_id": operation.id,
        "badge_id": operation.metadata["badge_id"],
        "talk_ids": [talk.id for talk in emulator.talks],
    }
    assert len(event["talk_ids"]) == 3
    methods = [call.method for call in emulator.calls[1:]]
    assert methods == sorted(methods), "first the operation, then the talks"


def test_the_analysis_of_a_badges_talks_need_not_be_waited_for(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    operation = client.upload_badge(BADGE, METADATA)
    event = look_until_the_end(badge(operation.id, clock, wait_for_talks=False), client, clock)
    assert len(event["talk_ids"]) == 3
    assert "TalkService/Get" not in {call.method for call in emulator.calls}


def test_a_badge_on_which_nobody_speaks_has_no_talks(client: SpeechSenseClient, clock: ManualClock) -> None:
    operation = client.upload_badge(wav(2), METADATA)
    event = look_until_the_end(badge(operation.id, clock), client, clock)
    assert (event["status"], event["talk_ids"]) == ("success", [])


def test_a_badge_that_cannot_be_cut_says_why(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.script(BadgeFault(code="INVALID_ARGUMENT", message="no speech in it", before_done=True))
    operation = client.upload_badge(BADGE, METADATA)
    event = look_until_the_end(badge(operation.id, clock), client, clock)
    assert event == {
        "status": "operation_failed",
        "operation_id": operation.id,
        "message": "SpeechSense could not cut the recording into talks: no speech in it",
        "code": "INVALID_ARGUMENT",
    }


def test_a_failed_talk_of_a_badge_is_told_with_the_badge(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.script(TalkFault(algorithm=Algorithm.SPEECHKIT, message="noise"))
    operation = client.upload_badge(BADGE, METADATA)
    event = look_until_the_end(badge(operation.id, clock), client, clock)
    assert event["status"] == "failed"
    assert event["operation_id"] == operation.id
    assert event["badge_id"] == operation.metadata["badge_id"]
    assert "noise" in event["message"]


def test_the_talks_of_a_badge_may_be_unknown_at_first(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.script(TalkFault(hidden_seconds=300, count=3))
    operation = client.upload_badge(BADGE, METADATA)
    assert look_until_the_end(badge(operation.id, clock), client, clock)["status"] == "success"


def test_passing_errors_of_an_operation_are_ridden_out_and_others_are_not(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock
) -> None:
    operation = client.upload_badge(BADGE, METADATA)
    emulator.script(Fault(method="OperationService/Get", code="UNAVAILABLE", count=3))
    assert look_until_the_end(badge(operation.id, clock), client, clock)["status"] == "success"
    event = look_until_the_end(badge("bdg00nowhere", clock), client, clock)
    assert event["status"] == "error"
    assert event["retryable"] is False
    assert event["operation_id"] == "bdg00nowhere"


def test_the_deadline_of_a_badge_names_its_operation(client: SpeechSenseClient, clock: ManualClock) -> None:
    operation = client.upload_badge(BADGE, METADATA)
    event = look_until_the_end(badge(operation.id, clock, end_time=clock()), client, clock)
    assert event["status"] == "timeout"
    assert operation.id in event["message"]


# --- what an event means


def test_a_wait_that_succeeded_gives_its_event() -> None:
    event = {"status": "success", "talk_ids": ["t1"], "badge_id": "b1"}
    assert conclude(event) == event


@pytest.mark.parametrize(
    ("event", "kind", "text"),
    [
        ({"status": "failed", "message": "1 of 2", "reasons": {"t1": "noise"}}, TalkFailedError, "1 of 2"),
        (
            {"status": "operation_failed", "message": "no speech", "operation_id": "o1", "code": "INTERNAL"},
            OperationFailedError,
            r"no speech \(INTERNAL\)",
        ),
        (
            {"status": "timeout", "message": "late", "hint": "wait again."},
            DeadlineExceededError,
            r"late\. What to do: wait again",
        ),
        ({"status": "error", "message": "gone"}, SpeechSenseError, "gone"),
    ],
)
def test_a_wait_that_did_not_succeed_is_an_error(event: Event, kind: type, text: str) -> None:
    with pytest.raises(kind, match=text):
        conclude(event)


def test_a_failed_talks_error_has_the_reasons() -> None:
    with pytest.raises(TalkFailedError) as caught:
        conclude({"status": "failed", "message": "m", "reasons": {"t1": "noise"}})
    assert caught.value.reasons == {"t1": "noise"}


@pytest.mark.parametrize(
    "event",
    [None, "success", [], {}, {"status": "success"}, {"status": "success", "talk_ids": "t1"}, {"status": "x"}]
    + [{"status": status} for status in ("failed", "operation_failed", "timeout", "error")],
)
def test_an_event_that_is_not_understood_is_an_error_and_never_a_success(event: Any) -> None:
    with pytest.raises(SpeechSenseError, match="does not understand") as caught:
        conclude(event)
    assert "one release of this provider on workers and triggerers" in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ServiceUnavailableError("gone"), True),
        (AuthenticationError("no"), False),
        (NotFoundError("no", ids=["t1"]), False),
        (KeyError("a bug"), True),
    ],
)
def test_an_error_goes_through_an_event_with_its_text_and_whether_to_retry(
    error: Exception, retryable: bool
) -> None:
    with pytest.raises(SpeechSenseError) as caught:
        conclude(json.loads(json.dumps(error_event(error))))
    assert caught.value.retryable is retryable
    if isinstance(error, SpeechSenseError):
        assert type(caught.value) is type(error)
        assert str(caught.value) == str(error)
    else:
        assert f"{type(error).__name__}: {error}" in str(caught.value)


@pytest.mark.parametrize("name", ["TelepathyError", "annotations", "Sequence", "InvalidMetadataError", None])
def test_an_error_of_a_class_that_this_release_does_not_make_keeps_its_text(name: str | None) -> None:
    event = {"status": "error", "error": name, "message": "gone", "code": "UNAVAILABLE", "retryable": False}
    with pytest.raises(SpeechSenseError, match=r"gone \(UNAVAILABLE\)") as caught:
        conclude(event)
    assert type(caught.value) is SpeechSenseError
    assert not caught.value.retryable
