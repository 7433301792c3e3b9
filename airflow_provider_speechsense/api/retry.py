"""What to do after an error: pure functions of the error, the attempt and the clock.

Retries sit above gRPC. Its own, set by a service config, stop silently once a request outgrows the retry
buffer, and an upload has to be read again from byte 0 anyway.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class CallKind(Enum):
    """What repeating a call would do."""

    #: Changes nothing, or the same thing again: Search, Get, operations, a metadata edit.
    REPEATABLE = "repeatable"
    #: A second one is a second talk: the service knows no idempotency key.
    FIRST_UPLOAD = "first upload"


@dataclass(frozen=True)
class Failure:
    """One failed attempt.

    :param code: gRPC status name
    :param details: the status text
    :param reached_service: whether request bytes may have been accepted before it failed
    :param unfinished: whether it was a stream of which the end was not sent: it cannot have become a talk
    :param hopeless: whether it cannot go otherwise next time, such as a certificate that is not trusted
    :param retry_after: seconds that the service asked to wait, where it said
    """

    code: str
    details: str = ""
    reached_service: bool = True
    unfinished: bool = False
    hopeless: bool = False
    retry_after: float | None = None


@dataclass(frozen=True)
class Wait:
    """Try again after ``seconds``; with fresh credentials if ``renew_credentials``."""

    seconds: float
    renew_credentials: bool = False


@dataclass(frozen=True)
class Split:
    """Ask for less at a time."""


@dataclass(frozen=True)
class GiveUp:
    """Report the error; ``outcome_unknown`` if an upload may have arrived all the same."""

    outcome_unknown: bool = False


Decision = Wait | Split | GiveUp

#: Texts by which RESOURCE_EXHAUSTED means an oversize message; it is also the code of a spent quota.
_OVERSIZE = ("larger than max", "exceeds maximum size", "exceeds the maximum size")

_PASSING = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "ABORTED"})

#: Codes by which a server refuses a request: a refused upload has made no talk.
_REFUSALS = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "UNAUTHENTICATED",
    }
)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to try.

    :param attempts: tries in all after passing errors
    :param first_backoff: seconds before the second try; each later pause doubles
    :param max_backoff: longest pause between tries, in seconds
    :param max_quota_wait: seconds to spend in all on waiting out quota refusals; 0 reports them at once
    """

    attempts: int = 5
    first_backoff: float = 1.0
    max_backoff: float = 30.0
    #: The hour's window can be waited out; the day's cannot be by a task.
    max_quota_wait: float = 3_700.0


#: For poll loops, which decide themselves what a passing error means.
ONE_ATTEMPT = RetryPolicy(attempts=1, max_quota_wait=0.0)

#: Seconds to wait after the 1st, 2nd, ... quota refusal of a call. A refusal does not say which of the
#: windows is full: 1 s, 1 min, 1 h or 24 h.
_QUOTA_WAITS = (1.0, 5.0, 15.0, 60.0)


def is_oversize(failure: Failure) -> bool:
    """Tell an oversize message from a spent quota, which share a code."""
    return failure.code in ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "INTERNAL") and any(
        text in failure.details.lower() for text in _OVERSIZE
    )


def is_quota(failure: Failure) -> bool:
    """Tell whether this is a refusal by quota."""
    return failure.code == "RESOURCE_EXHAUSTED" and not is_oversize(failure)


def decide(
    failure: Failure,
    *,
    kind: CallKind,
    policy: RetryPolicy,
    attempt: int,
    quota_refusals: int = 0,
    quota_waited: float = 0.0,
    credentials_renewed: bool = True,
    rng: Callable[[], float] = random.random,
) -> Decision:
    """Say what to do after ``failure``.

    :param attempt: how many attempts have failed by a passing error, this one included
    :param quota_refusals: how many attempts a quota has refused, this one included
    :param quota_waited: seconds already spent on such refusals
    :param credentials_renewed: whether the credentials were renewed for this call, or cannot be
    :param rng: gives 0..1, for jitter
    """
    if is_oversize(failure):
        return Split()
    if is_quota(failure):
        wait = failure.retry_after or _QUOTA_WAITS[min(quota_refusals, len(_QUOTA_WAITS)) - 1]
        # Upwards only: earlier than the window's end is of no use.
        wait *= 1 + rng() / 10
        return Wait(wait) if quota_waited + wait <= policy.max_quota_wait else GiveUp()
    if failure.code == "UNAUTHENTICATED":
        return GiveUp() if credentials_renewed else Wait(0.0, renew_credentials=True)
    if kind is CallKind.FIRST_UPLOAD and failure.reached_service:
        return GiveUp(outcome_unknown=failure.code not in _REFUSALS and not failure.unfinished)
    if failure.hopeless or failure.code not in _PASSING or attempt >= policy.attempts:
        return GiveUp()
    backoff = min(policy.max_backoff, policy.first_backoff * 2 ** (attempt - 1))
    # Half fixed, half random: tasks that failed together do not come back together.
    return Wait(failure.retry_after or backoff * (1 + rng()) / 2)
