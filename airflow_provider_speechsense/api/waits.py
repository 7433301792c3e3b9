"""The two waits of this package: a look at the service, and what it came to.

Sensors, operators and triggers all call ``look`` and hand its event to ``conclude``: one code path, whether
the task stays on its worker or is deferred. An event is plain JSON, and a wire format between releases.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from airflow_provider_speechsense import exceptions
from airflow_provider_speechsense.api.models import Operation, TalkStatus
from airflow_provider_speechsense.api.polling import (
    VISIBILITY_GRACE_SECONDS,
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
    parse_algorithms,
)
from airflow_provider_speechsense.exceptions import (
    DeadlineExceededError,
    OperationFailedError,
    SpeechSenseError,
    TalkFailedError,
)

#: How many failed talks to ask for their error texts: each comes with its whole transcription.
_EXPLAINED = 20

#: What an event carries of the error that ended a wait, beside its class and message.
_FACTS = ("method", "endpoint", "code", "request_id", "server_request_id", "hint", "retryable")

Event = dict[str, Any]


class WaitClient(Protocol):
    """What a wait needs of the client."""

    def statuses(self, talk_ids: Iterable[str], **scope: str | None) -> list[TalkStatus]:
        """See ``SpeechSenseClient.statuses``."""

    def failure_reasons(self, talk_ids: Iterable[str], **scope: str | None) -> dict[str, str]:
        """See ``SpeechSenseClient.failure_reasons``."""

    def get_operation(self, operation_id: str) -> Operation:
        """See ``SpeechSenseClient.get_operation``."""


class Wait(ABC):
    """Something to look at until it has come to an end."""

    @abstractmethod
    def look(self, client: WaitClient, now: float) -> Pending | Event:
        """Look once, with one or a few calls; return when to look again, or the event that ends the wait.

        :param now: seconds since the epoch
        """


class TalkWait(Wait):
    """Waits until talks are analysed.

    :param wait_for: algorithms whose results are needed; none means the overall state
    :param scope: ids that override the client's defaults
    :param poll_interval: seconds between looks
    :param end_time: when to stop, in seconds since the epoch
    :param visible_by: until when an id may be unknown to the service, in seconds since the epoch
    :raises ConfigurationError: ``wait_for`` names what is no algorithm
    """

    def __init__(
        self,
        talk_ids: Sequence[str],
        *,
        wait_for: Iterable[str] | None = None,
        scope: Mapping[str, str] | None = None,
        poll_interval: float,
        end_time: float,
        visible_by: float,
    ) -> None:
        self._scope = dict(scope or {})
        self._poller = TalkPoller(
            talk_ids,
            wait_for=parse_algorithms(wait_for),
            poll_interval=poll_interval,
            end_time=end_time,
            visible_by=visible_by,
        )

    def look(self, client: WaitClient, now: float) -> Pending | Event:
        """Ask for the talks that are not finished."""
        try:
            states = client.statuses(self._poller.waiting_for(), **self._scope)
            outcome = self._poller.on_states(states, now)
        except SpeechSenseError as error:
            outcome = self._poller.on_error(error, now)
        return _event(outcome, self._explain(client, outcome) if isinstance(outcome, Failed) else None)

    def _explain(self, client: WaitClient, outcome: Failed) -> Mapping[str, str]:
        try:
            return client.failure_reasons(list(outcome.algorithms)[:_EXPLAINED], **self._scope)
        except SpeechSenseError:
            # That they failed is known; why is only the better half.
            return {}


class BadgeWait(Wait):
    """Waits for the operation of an UploadBadge and then, if wanted, for the talks it made.

    :param wait_for_talks: whether to wait for their analysis too: a finished operation only has made them
    :param poll_interval: seconds between looks
    :param end_time: when to stop, in seconds since the epoch
    """

    def __init__(
        self,
        operation_id: str,
        *,
        wait_for_talks: bool = True,
        wait_for: Iterable[str] | None = None,
        scope: Mapping[str, str] | None = None,
        poll_interval: float,
        end_time: float,
    ) -> None:
        self._poller = OperationPoller(operation_id, poll_interval=poll_interval, end_time=end_time)
        self._wait_for_talks = wait_for_talks
        self._talk_args: dict[str, Any] = {
            "wait_for": parse_algorithms(wait_for),
            "scope": scope,
            "poll_interval": poll_interval,
            "end_time": end_time,
        }
        self._talks: TalkWait | None = None
        self._made: Event = {}

    def look(self, client: WaitClient, now: float) -> Pending | Event:
        """Ask for the operation and, once that is done, for its talks."""
        if self._talks is None:
            try:
                outcome = self._poller.on_operation(client.get_operation(self._poller.operation_id), now)
            except SpeechSenseError as error:
                outcome = self._poller.on_error(error, now)
            if not isinstance(outcome, OperationDone):
                return self._about_operation(_event(outcome))
            self._made = {"badge_id": outcome.badge_id, "talk_ids": list(outcome.talk_ids)}
            if not self._wait_for_talks or not outcome.talk_ids:
                return self._about_operation(_event(outcome))
            self._talks = TalkWait(
                outcome.talk_ids, visible_by=now + VISIBILITY_GRACE_SECONDS, **self._talk_args
            )
        return self._about_operation(self._talks.look(client, now))

    def _about_operation(self, found: Pending | Event) -> Pending | Event:
        if isinstance(found, Pending):
            return found
        return {**self._made, **found, "operation_id": self._poller.operation_id}


def error_event(error: BaseException) -> Event:
    """Return the event that says that the wait itself broke."""
    if not isinstance(error, SpeechSenseError):
        # None of this package's, so nobody can say that a retry is of no use.
        return {"status": "error", "message": f"{type(error).__name__}: {error}", "retryable": True}
    facts = {name: getattr(error, name) for name in _FACTS}
    return {"status": "error", "error": type(error).__name__, "message": error.message, **facts}


def conclude(event: Any) -> Event:
    """Return the event of a wait that succeeded.

    :raises TalkFailedError: talks failed, with ids and reasons
    :raises OperationFailedError: the badge's operation failed
    :raises DeadlineExceededError: the wait was not over by its deadline
    :raises SpeechSenseError: the wait broke, or the event is not one of ours
    """
    match event:
        case {"status": "success", "talk_ids": [*talk_ids]} if all(isinstance(i, str) for i in talk_ids):
            return dict(event)
        case {"status": "failed", "message": str(message), "reasons": {}}:
            raise TalkFailedError(message, reasons=event["reasons"])
        case {"status": "operation_failed", "message": str(message), "operation_id": operation_id}:
            raise OperationFailedError(message, operation_id=operation_id, code=event.get("code"))
        case {"status": "timeout", "message": str(message)}:
            raise DeadlineExceededError(message, hint=event.get("hint"))
        case {"status": "error", "message": str(message)}:
            raise _error_of(event, message)
    raise SpeechSenseError(
        f"The trigger sent {event!r}, which this release does not understand.",
        hint="run one release of this provider on workers and triggerers, then clear the task.",
    )


def _error_of(event: Mapping[str, Any], message: str) -> SpeechSenseError:
    """Return the error that ended a wait, of its own class where this release has that."""
    facts = {name: event.get(name) for name in _FACTS}
    facts["retryable"] = event.get("retryable", True)
    kind = getattr(exceptions, str(event.get("error")), SpeechSenseError)
    if not (isinstance(kind, type) and issubclass(kind, SpeechSenseError)):
        kind = SpeechSenseError
    try:
        return kind(message, **facts)
    except TypeError:
        # A class that is made from more than a message.
        return SpeechSenseError(message, **facts)


def _event(outcome: Outcome, explained: Mapping[str, str] | None = None) -> Pending | Event:
    """Return what a look came to.

    :param explained: why talks failed, by id
    """
    match outcome:
        case Pending():
            return outcome
        case Done(talk_ids=talk_ids):
            return {"status": "success", "talk_ids": list(talk_ids)}
        case Failed():
            return _failed_event(outcome, explained or {})
        case OperationDone(badge_id=badge_id, talk_ids=talk_ids):
            return {"status": "success", "badge_id": badge_id, "talk_ids": list(talk_ids)}
        case OperationFailed(message=message, code=code):
            return {
                "status": "operation_failed",
                "message": f"SpeechSense could not cut the recording into talks: {message}",
                "code": code,
            }
        case GaveUp(error=error):
            return error_event(error)
        case TimedOut(pending=pending):
            return {
                "status": "timeout",
                "message": f"Not finished by the deadline: {_listed(pending)}. SpeechSense goes on with it.",
                "hint": "wait again with a sensor on the same ids, or allow a longer timeout.",
            }


def _failed_event(outcome: Failed, explained: Mapping[str, str]) -> Event:
    reasons = {
        talk_id: f"failed in {', '.join(algorithms) or 'an algorithm that the service does not name'}: "
        f"{explained.get(talk_id) or 'the service gives no reason'}"
        for talk_id, algorithms in outcome.algorithms.items()
    }
    shown = [f"{talk_id} {reason}" for talk_id, reason in list(reasons.items())[:_EXPLAINED]]
    if len(reasons) > _EXPLAINED:
        shown.append(f"and {len(reasons) - _EXPLAINED} more")
    total = len(reasons) + len(outcome.ready)
    return {
        "status": "failed",
        "message": f"SpeechSense could not analyse {len(reasons)} of {total} talks: {'; '.join(shown)}",
        "reasons": reasons,
        "talk_ids": list(outcome.ready),
    }


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
