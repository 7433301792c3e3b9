"""What is done after an error is a function of the error, the attempt and what was waited already."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_speechsense.api.retry import (
    ONE_ATTEMPT,
    CallKind,
    Decision,
    Failure,
    GiveUp,
    RetryPolicy,
    Split,
    Wait,
    decide,
    is_oversize,
    is_quota,
)

POLICY = RetryPolicy(attempts=5, first_backoff=1, max_backoff=6, max_quota_wait=100)
PASSING = ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "ABORTED"]
FOR_GOOD = [
    "CANCELLED",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "DATA_LOSS",
]


def decided(
    failure: Failure, *, kind: CallKind = CallKind.REPEATABLE, random: float = 1.0, **options: Any
) -> Decision:
    return decide(failure, **{"kind": kind, "policy": POLICY, "attempt": 1, "rng": lambda: random, **options})


def upload(code: str, **facts: Any) -> Decision:
    return decided(Failure(code, **facts), kind=CallKind.FIRST_UPLOAD)


@pytest.mark.parametrize("code", PASSING)
def test_a_repeatable_call_is_tried_again_after_a_passing_error(code: str) -> None:
    assert decided(Failure(code)) == Wait(1.0)


@pytest.mark.parametrize("code", FOR_GOOD)
def test_what_stays_as_it_is_is_not_tried_again(code: str) -> None:
    assert decided(Failure(code)) == GiveUp()
    assert upload(code, reached_service=False) == GiveUp()


def test_pauses_double_up_to_the_longest_and_attempts_end() -> None:
    pauses = [decided(Failure("UNAVAILABLE"), attempt=attempt) for attempt in range(1, 6)]
    assert pauses == [Wait(1.0), Wait(2.0), Wait(4.0), Wait(6.0), GiveUp()]


def test_half_of_a_pause_is_random() -> None:
    assert decided(Failure("UNAVAILABLE"), attempt=3, random=0.0) == Wait(2.0)


def test_a_server_that_says_when_to_come_back_is_obeyed() -> None:
    assert decided(Failure("UNAVAILABLE", retry_after=17)) == Wait(17)


def test_a_connection_that_can_never_come_about_is_not_tried_again() -> None:
    assert decided(Failure("UNAVAILABLE", reached_service=False, hopeless=True)) == GiveUp()


@pytest.mark.parametrize("code", [*PASSING, "CANCELLED", "DATA_LOSS"])
def test_a_first_upload_that_may_have_arrived_is_not_repeated(code: str) -> None:
    assert upload(code) == GiveUp(outcome_unknown=True)


@pytest.mark.parametrize("code", sorted({*FOR_GOOD} - {"CANCELLED", "DATA_LOSS"}))
def test_a_first_upload_that_was_refused_has_made_no_talk(code: str) -> None:
    assert upload(code) == GiveUp(outcome_unknown=False)


def test_a_first_upload_is_repeated_if_no_connection_came_about() -> None:
    assert upload("UNAVAILABLE", reached_service=False) == Wait(1.0)


@pytest.mark.parametrize("kind", CallKind)
def test_a_spent_quota_is_waited_out_longer_and_longer(kind: CallKind) -> None:
    failure = Failure("RESOURCE_EXHAUSTED", "quota")
    waits = [decided(failure, kind=kind, random=0.0, quota_refusals=n) for n in range(1, 7)]
    assert waits == [Wait(1), Wait(5), Wait(15), Wait(60), Wait(60), Wait(60)]


def test_a_wait_for_quota_is_never_shortened_by_chance() -> None:
    failure = Failure("RESOURCE_EXHAUSTED", retry_after=50)
    assert decided(failure, quota_refusals=1, random=0.0) == Wait(50)
    assert decided(failure, quota_refusals=1, random=1.0) == Wait(pytest.approx(55))


@pytest.mark.parametrize(("waited", "decision"), [(50, Wait(50)), (51, GiveUp())])
def test_waiting_for_quota_ends_at_the_policys_limit(waited: float, decision: Decision) -> None:
    failure = Failure("RESOURCE_EXHAUSTED", retry_after=50)
    assert decided(failure, random=0.0, quota_refusals=2, quota_waited=waited) == decision


def test_refusals_by_quota_do_not_spend_attempts() -> None:
    failure = Failure("RESOURCE_EXHAUSTED")
    assert decided(failure, attempt=99, quota_refusals=1, random=0.0) == Wait(1.0)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5000000 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "SERVER: Sent message larger than max (5 vs. 4)"),
        ("INTERNAL", "Message exceeds maximum size"),
        ("OUT_OF_RANGE", "message exceeds the maximum size"),
    ],
)
@pytest.mark.parametrize("kind", CallKind)
def test_an_oversize_message_is_split_and_not_waited_for(kind: CallKind, code: str, details: str) -> None:
    failure = Failure(code, details)
    assert is_oversize(failure)
    assert not is_quota(failure)
    assert decided(failure, kind=kind, quota_refusals=1) == Split()


def test_credentials_are_renewed_once() -> None:
    refused = Failure("UNAUTHENTICATED")
    assert decided(refused, credentials_renewed=False) == Wait(0.0, renew_credentials=True)
    assert decided(refused, credentials_renewed=True) == GiveUp()


def test_one_attempt_is_one_attempt() -> None:
    assert decided(Failure("UNAVAILABLE"), policy=ONE_ATTEMPT) == GiveUp()
    assert decided(Failure("RESOURCE_EXHAUSTED"), policy=ONE_ATTEMPT, quota_refusals=1) == GiveUp()
