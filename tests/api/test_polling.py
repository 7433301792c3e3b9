"""What a poll means is decided from its argument and the clock alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from airflow_provider_speechsense.api.models import Operation, ProcessingState, TalkStatus
from airflow_provider_speechsense.api.polling import (
    MAX_FAILURES_IN_A_ROW,
    Done,
    Failed,
    GaveUp,
    OperationDone,
    OperationFailed,
    OperationPoller,
    Outcome,
    Pending,
    TalkPoller,
    TimedOut,
    not_found,
    parse_algorithms,
)
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    ServiceUnavailableError,
    SpeechSenseError,
)

UNSPECIFIED, NOT_STARTED, PROCESSING, SUCCESS, FAILED = ProcessingState

START, VISIBLE_BY, END = 1000.0, 1100.0, 2000.0


def poller(*talk_ids: str, wait_for: Collection[str] = ()) -> TalkPoller:
    return TalkPoller(
        talk_ids or ("t1",), wait_for=wait_for, poll_interval=30, end_time=END, visible_by=VISIBLE_BY
    )


def status(talk_id: str, state: ProcessingState, **algorithms: ProcessingState) -> TalkStatus:
    return TalkStatus(talk_id, state, algorithms)


def seen(waiting: TalkPoller, *states: TalkStatus, now: float = START) -> Outcome:
    return waiting.on_states(states, now)


def pending(outcome: Outcome) -> Pending:
    assert isinstance(outcome, Pending)
    return outcome


# --- talks


def test_a_talk_that_succeeded_is_done() -> None:
    assert seen(poller(), status("t1", SUCCESS)) == Done(("t1",))


@pytest.mark.parametrize("state", [UNSPECIFIED, NOT_STARTED, PROCESSING])
def test_anything_but_an_end_is_waited_for(state: ProcessingState) -> None:
    assert pending(seen(poller(), status("t1", state))).seconds == 30


def test_only_what_is_not_finished_is_asked_for_again() -> None:
    waiting = poller("t1", "t2", "t2", "t3")
    assert waiting.waiting_for() == ("t1", "t2", "t3")
    outcome = seen(waiting, status("t1", PROCESSING), status("t2", SUCCESS), status("t3", PROCESSING))
    assert waiting.waiting_for() == ("t1", "t3")
    assert pending(outcome).summary == "1 of 3 talks ready; 2 pending, among them t1"
    assert seen(waiting, status("t3", SUCCESS), status("t1", SUCCESS)) == Done(("t1", "t2", "t3"))


def test_a_talk_that_failed_does_not_end_the_wait_for_the_others() -> None:
    waiting = poller("t1", "t2")
    broken = status("t1", FAILED, SPEECHKIT=FAILED, CLASSIFIER=NOT_STARTED)
    outcome = seen(waiting, broken, status("t2", PROCESSING))
    assert "1 failed" in pending(outcome).summary
    assert waiting.waiting_for() == ("t2",)
    assert seen(waiting, status("t2", SUCCESS)) == Failed({"t1": ("SPEECHKIT",)}, ("t2",))


def test_a_failed_algorithm_does_not_fail_a_talk_that_is_waited_for_as_a_whole() -> None:
    assert isinstance(seen(poller(), status("t1", PROCESSING, STATISTICS=FAILED)), Pending)
    assert seen(poller(), status("t1", SUCCESS, STATISTICS=FAILED)) == Done(("t1",))


@pytest.mark.parametrize(
    ("state", "algorithms", "ready"),
    [
        (PROCESSING, {"SPEECHKIT": SUCCESS, "CLASSIFIER": SUCCESS}, True),
        (PROCESSING, {"SPEECHKIT": SUCCESS, "CLASSIFIER": PROCESSING}, False),
        (PROCESSING, {"SPEECHKIT": SUCCESS}, False),
        (SUCCESS, {"SPEECHKIT": SUCCESS}, True),
        (SUCCESS, {}, True),
        (SUCCESS, {"SPEECHKIT": PROCESSING}, False),
        (PROCESSING, {"SPEECHKIT": SUCCESS, "CLASSIFIER": SUCCESS, "STATISTICS": FAILED}, True),
    ],
)
def test_given_algorithms_are_waited_for_and_no_others(
    state: ProcessingState, algorithms: dict[str, ProcessingState], ready: bool
) -> None:
    waiting = poller(wait_for={"SPEECHKIT", "CLASSIFIER"})
    outcome = seen(waiting, TalkStatus("t1", state, algorithms))
    assert outcome == Done(("t1",)) if ready else isinstance(outcome, Pending)


@pytest.mark.parametrize(
    ("state", "algorithms", "failed"),
    [
        (PROCESSING, {"SPEECHKIT": FAILED, "STATISTICS": FAILED}, ("SPEECHKIT",)),
        (FAILED, {"STATISTICS": FAILED, "SPEECHKIT": NOT_STARTED}, ("STATISTICS",)),
        (FAILED, {}, ()),
    ],
)
def test_a_talk_fails_when_what_is_waited_for_can_no_longer_come(
    state: ProcessingState, algorithms: dict[str, ProcessingState], failed: tuple[str, ...]
) -> None:
    outcome = seen(poller(wait_for={"SPEECHKIT"}), TalkStatus("t1", state, algorithms))
    assert outcome == Failed({"t1": failed})


def test_an_id_may_be_unknown_for_a_while() -> None:
    waiting = poller("t1", "t2")
    outcome = seen(waiting, status("t1", PROCESSING), now=VISIBLE_BY - 1)
    assert "1 not visible yet" in pending(outcome).summary
    late = seen(waiting, status("t1", PROCESSING), now=VISIBLE_BY)
    assert isinstance(late, GaveUp)
    assert isinstance(late.error, NotFoundError)
    assert late.error.ids == ("t2",)


def test_an_id_that_was_seen_once_may_vanish_for_a_while() -> None:
    waiting = poller()
    seen(waiting, status("t1", PROCESSING))
    assert isinstance(seen(waiting, now=VISIBLE_BY + 1), Pending)


def test_ids_never_seen_are_asked_for_last_and_together() -> None:
    waiting = poller("t1", "t2", "t3", "t4")
    seen(waiting, status("t2", PROCESSING), status("t4", PROCESSING))
    assert waiting.waiting_for() == ("t2", "t4", "t1", "t3")


def test_the_last_look_is_at_the_deadline_itself() -> None:
    waiting = poller("t1", "t2")
    processing = (status("t1", PROCESSING), status("t2", PROCESSING))
    assert pending(seen(waiting, *processing, now=END - 10)).seconds == 10
    assert seen(waiting, *processing, now=END) == TimedOut(("t1", "t2"))
    assert seen(waiting, status("t1", SUCCESS), status("t2", SUCCESS), now=END + 1) == Done(("t1", "t2"))


# --- errors


def errors_in_a_row(waiting: TalkPoller, error: SpeechSenseError, number: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    now = START
    for _ in range(number):
        outcomes.append(waiting.on_error(error, now))
        now += outcomes[-1].seconds if isinstance(outcomes[-1], Pending) else 0
    return outcomes


def ridden_out(waiting: TalkPoller, error: SpeechSenseError) -> tuple[list[float], Outcome]:
    """Poll in vain until the poller gives up; return the pauses it made, and how it ended."""
    pauses: list[float] = []
    while isinstance(outcome := waiting.on_error(error, START + sum(pauses)), Pending):
        assert f"poll {len(pauses) + 1} in a row failed: down" in outcome.summary
        pauses.append(outcome.seconds)
    return pauses, outcome


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (5, [5, 5, 5, 8, 16, 32, 60, 60, 60]),
        (60, [60] * 9),
        # Less than a second would only spend the quota.
        (0, [1, 2, 4, 8, 16, 32, 60, 60, 60]),
    ],
)
def test_passing_errors_are_ridden_out_with_growing_pauses(interval: float, expected: list[float]) -> None:
    waiting = TalkPoller(["t1"], poll_interval=interval, end_time=END, visible_by=VISIBLE_BY)
    error = ServiceUnavailableError("down")
    assert ridden_out(waiting, error) == (expected, GaveUp(error))


def test_a_poll_that_went_well_makes_up_for_those_that_did_not() -> None:
    waiting = poller()
    error = ServiceUnavailableError("down")
    for _ in range(3):
        errors_in_a_row(waiting, error, MAX_FAILURES_IN_A_ROW - 1)
        assert isinstance(seen(waiting, status("t1", PROCESSING)), Pending)


def test_a_spent_quota_never_ends_a_wait_because_it_passes() -> None:
    outcomes = errors_in_a_row(poller(), QuotaExceededError("spent"), 18)
    assert all(isinstance(outcome, Pending) for outcome in outcomes)
    assert pending(outcomes[-1]).seconds == 60


def test_an_error_that_does_not_pass_ends_the_wait() -> None:
    error = PermissionDeniedError("no role")
    assert poller().on_error(error, START) == GaveUp(error)


def test_a_passing_error_at_the_deadline_is_a_timeout() -> None:
    assert poller().on_error(ServiceUnavailableError("down"), END) == TimedOut(("t1",))


# --- operations


def operation_poller() -> OperationPoller:
    return OperationPoller("o1", poll_interval=30, end_time=END)


def on_operation(now: float = START, **facts: Any) -> Outcome:
    return operation_poller().on_operation(Operation("o1", **facts), now)


def test_an_operation_that_runs_is_waited_for_even_if_it_already_has_an_error() -> None:
    assert pending(on_operation()).seconds == 30
    assert isinstance(on_operation(error="rolling back"), Pending)
    assert on_operation(now=END) == TimedOut(("o1",))


def test_an_operation_that_is_done_names_its_talks() -> None:
    made = on_operation(done=True, response={"badge_id": "b1", "talk_ids": ["t1", "t2"]})
    assert made == OperationDone("b1", ("t1", "t2"))


def test_a_badge_that_gave_no_talks_is_done_and_takes_its_id_from_the_metadata() -> None:
    assert on_operation(done=True, metadata={"badge_id": "b1"}) == OperationDone("b1", ())


def test_an_operation_that_failed_says_why() -> None:
    assert on_operation(done=True, error="no audio", error_code="INTERNAL") == OperationFailed(
        "no audio", "INTERNAL"
    )


def test_errors_while_waiting_for_an_operation_are_judged_alike() -> None:
    waiting = operation_poller()
    assert waiting.waiting_for() == ("o1",)
    assert isinstance(waiting.on_error(ServiceUnavailableError("down"), START), Pending)
    assert isinstance(waiting.on_error(NotFoundError("what?"), START), GaveUp)


# --- names


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (None, set()),
        ([], set()),
        ("speechkit", {"SPEECHKIT"}),
        (["ALGORITHM_SPEECHKIT", "classifier"], {"SPEECHKIT", "CLASSIFIER"}),
    ],
)
def test_algorithms_are_named_with_or_without_prefix(names: Any, found: set[str]) -> None:
    assert parse_algorithms(names) == found


def test_an_algorithm_that_there_is_not_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"wait_for names MAGIC,.*choose from SPEECHKIT, YGPT, "):
        parse_algorithms(["magic", "SPEECHKIT"])


def test_many_unknown_ids_are_counted_not_listed() -> None:
    error = not_found([f"t{i}" for i in range(25)])
    assert "t9 and 15 more." in str(error)
    assert len(error.ids) == 25
