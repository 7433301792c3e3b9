"""Deciding what a poll means. Pure: the clock is an argument, nothing here does I/O.

A poller is asked what it still waits for, told what was seen or what went wrong, and answers with an
outcome: keep waiting so many seconds, done, or why not. Every wait of the package, sync or deferred, uses it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_speechsense.api.models import (
    Algorithm,
    Operation,
    ProcessingState,
    TalkStatus,
)
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    NotFoundError,
    QuotaExceededError,
    SpeechSenseError,
)

log = logging.getLogger(__name__)

#: So many failed polls in a row end a wait ...
MAX_FAILURES_IN_A_ROW = 10
#: ... unless the outage is shorter than this, in seconds: a sensor may poke every second.
MIN_OUTAGE_SECONDS = 240.0
#: In seconds; more looks than this would only spend the quota.
SHORTEST_INTERVAL = 1.0
#: Longest pause after a failed poll, in seconds, unless the poll interval is longer.
MAX_FAILURE_PAUSE = 60.0
#: How long an id may be unknown after the wait began. A fresh talk is not visible at once; how soon
#: it is, the service does not say.
VISIBILITY_GRACE_SECONDS = 600.0


@dataclass(frozen=True)
class Pending:
    """Not finished: look again after ``seconds``."""

    seconds: float
    summary: str


@dataclass(frozen=True)
class Done:
    """Finished well."""

    talk_ids: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """Talks were not analysed; ``algorithms`` has the failed ones by talk id."""

    algorithms: Mapping[str, tuple[str, ...]]
    ready: tuple[str, ...] = ()


@dataclass(frozen=True)
class OperationDone:
    """A badge's operation succeeded; its talks are to be waited for next."""

    badge_id: str
    talk_ids: tuple[str, ...]


@dataclass(frozen=True)
class OperationFailed:
    """A badge's operation ended with an error."""

    message: str
    code: str | None = None


@dataclass(frozen=True)
class TimedOut:
    """The deadline passed; ``pending`` says what was not finished."""

    pending: tuple[str, ...]


@dataclass(frozen=True)
class GaveUp:
    """Looking failed for good."""

    error: SpeechSenseError


Outcome = Pending | Done | Failed | OperationDone | OperationFailed | TimedOut | GaveUp


def parse_algorithms(names: Iterable[str] | None) -> frozenset[str]:
    """Return the algorithm names to wait for, without the API's prefix; none means the overall state.

    :raises ConfigurationError: naming what is no algorithm
    """
    if isinstance(names, str):
        names = [names]
    found = frozenset(str(name).upper().removeprefix("ALGORITHM_") for name in names or ())
    unknown = found - Algorithm.__members__.keys()
    if unknown:
        raise ConfigurationError(
            f"wait_for names {', '.join(sorted(unknown))}, which the service does not have.",
            hint=f"choose from {', '.join(Algorithm.__members__)}.",
        )
    return found


class _Poller(ABC):
    """What waiting for talks and for an operation share: the deadline and passing errors."""

    def __init__(self, poll_interval: float, end_time: float) -> None:
        self._poll_interval = max(poll_interval, SHORTEST_INTERVAL)
        self._end_time = end_time
        self._failures = 0
        self._failing_since = 0.0

    def on_error(self, error: SpeechSenseError, now: float) -> Outcome:
        """Take note of a failed poll: passing errors are ridden out, up to a number in a row.

        A spent quota always passes, only not soon.
        """
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
        long = now - self._failing_since >= MIN_OUTAGE_SECONDS and self._failures >= MAX_FAILURES_IN_A_ROW
        spent = isinstance(error, QuotaExceededError)
        if not error.retryable or (long and not spent):
            return GaveUp(error)
        pause = max(self._poll_interval, min(2.0 ** min(self._failures - 1, 10), MAX_FAILURE_PAUSE))
        return self._wait(now, f"poll {self._failures} in a row failed: {error}", pause)

    @abstractmethod
    def waiting_for(self) -> tuple[str, ...]:
        """Return the ids that are not finished."""

    def _wait(self, now: float, summary: str, pause: float | None = None) -> Outcome:
        left = self._end_time - now
        if left <= 0:
            return TimedOut(self.waiting_for())
        # The last look comes at the deadline itself, not up to an interval later.
        return Pending(min(pause or self._poll_interval, left), summary)


class TalkPoller(_Poller):
    """Waits until talks are analysed.

    A talk is ready when its overall state is SUCCESS or, given ``wait_for``, when each of those algorithms
    is; an algorithm that the service does not list for a successful talk does not apply to it. A failed
    talk does not end the wait for the others.

    :param wait_for: algorithm names, see ``parse_algorithms``
    :param poll_interval: seconds between looks
    :param end_time: when to stop, in seconds since the epoch
    :param visible_by: until when an id may be unknown, in seconds since the epoch
    """

    def __init__(
        self,
        talk_ids: Sequence[str],
        *,
        wait_for: Collection[str] = (),
        poll_interval: float,
        end_time: float,
        visible_by: float,
    ) -> None:
        super().__init__(poll_interval, end_time)
        self._talk_ids = tuple(dict.fromkeys(talk_ids))
        self._wait_for = frozenset(wait_for)
        self._visible_by = visible_by
        self._ready: set[str] = set()
        self._failed: dict[str, tuple[str, ...]] = {}
        self._seen: set[str] = set()

    def waiting_for(self) -> tuple[str, ...]:
        """Return the ids to ask for at the next look.

        Those never seen come last, together: an id that the service does not know may spoil its batch.
        """
        pending = [i for i in self._talk_ids if i not in self._ready and i not in self._failed]
        return tuple(sorted(pending, key=lambda talk_id: talk_id not in self._seen))

    def on_states(self, states: Iterable[TalkStatus], now: float) -> Outcome:
        """Take note of what a look at ``waiting_for()`` showed; an id without a state was not found."""
        self._failures = 0
        for status in states:
            self._seen.add(status.talk_id)
            self._judge(status)
        pending = self.waiting_for()
        if not pending:
            return self._end()
        missing = [i for i in pending if i not in self._seen]
        if missing and now >= self._visible_by:
            return GaveUp(not_found(missing))
        return self._wait(now, self._summary(pending, missing))

    def _judge(self, status: TalkStatus) -> None:
        known = status.algorithms
        succeeded = status.state is ProcessingState.SUCCESS
        failed = tuple(a for a in known if known[a] is ProcessingState.FAILED)
        if not self._wait_for:
            if succeeded:
                self._ready.add(status.talk_id)
            elif status.state is ProcessingState.FAILED:
                self._fail(status.talk_id, failed)
            return
        wanted = [known.get(a) for a in self._wait_for]
        if ProcessingState.FAILED in wanted:
            self._fail(status.talk_id, tuple(a for a in failed if a in self._wait_for))
        elif all(state is ProcessingState.SUCCESS or (state is None and succeeded) for state in wanted):
            self._ready.add(status.talk_id)
        elif status.state is ProcessingState.FAILED:
            self._fail(status.talk_id, failed)

    def _fail(self, talk_id: str, algorithms: tuple[str, ...]) -> None:
        log.warning("Talk %s failed in %s.", talk_id, ", ".join(algorithms) or "an unnamed algorithm")
        self._failed[talk_id] = algorithms

    def _end(self) -> Outcome:
        ready = tuple(i for i in self._talk_ids if i in self._ready)
        return Failed(self._failed, ready) if self._failed else Done(ready)

    def _summary(self, pending: Sequence[str], missing: Sequence[str]) -> str:
        parts = [f"{len(self._ready)} of {len(self._talk_ids)} talks ready"]
        if self._failed:
            parts.append(f"{len(self._failed)} failed")
        if missing:
            parts.append(f"{len(missing)} not visible yet")
        return f"{', '.join(parts)}; {len(pending)} pending, among them {pending[0]}"


class OperationPoller(_Poller):
    """Waits until the operation of an UploadBadge has made its talks.

    :param poll_interval: seconds between looks
    :param end_time: when to stop, in seconds since the epoch
    """

    def __init__(self, operation_id: str, *, poll_interval: float, end_time: float) -> None:
        super().__init__(poll_interval, end_time)
        self.operation_id = operation_id

    def waiting_for(self) -> tuple[str, ...]:
        """Return the operation's id."""
        return (self.operation_id,)

    def on_operation(self, operation: Operation, now: float) -> Outcome:
        """Take note of what a look at the operation showed."""
        self._failures = 0
        # An error may stand there before the end, while work is rolled back.
        if not operation.done:
            return self._wait(now, f"operation {self.operation_id} is still running")
        if operation.error is not None:
            return OperationFailed(operation.error, operation.error_code)
        response = operation.response or {}
        badge_id = response.get("badge_id") or operation.metadata.get("badge_id", "")
        return OperationDone(badge_id, tuple(response.get("talk_ids", ())))


def not_found(talk_ids: Sequence[str]) -> NotFoundError:
    """Make the error that says that the service does not know ``talk_ids``."""
    shown = ", ".join(talk_ids[:10]) + (f" and {len(talk_ids) - 10} more" if len(talk_ids) > 10 else "")
    return NotFoundError(f"SpeechSense does not know the talks {shown}.", ids=talk_ids)
