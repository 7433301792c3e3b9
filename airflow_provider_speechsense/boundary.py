"""Where this package meets Airflow: errors, deadlines, and what comes out of templates and goes into XCom."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_speechsense.exceptions import ConfigurationError, SpeechSenseError
from airflow_provider_speechsense.storage import parse_json

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

#: How much earlier than Airflow's execution_timeout a deferred wait ends, in seconds, so that it is still
#: there to say what became of the work.
_BEFORE_EXECUTION_TIMEOUT = 15.0
#: Seconds beyond our own deadline before Airflow ends a deferred wait itself.
_BACKSTOP_SECONDS = 600


@contextmanager
def airflow_errors(*, may_retry: bool = True) -> Iterator[None]:
    """Turn this package's errors into Airflow's.

    One that no retry can mend fails the task without spending its retries.

    :param may_retry: False where a retry would do harm whatever the error
    """
    try:
        yield
    except SpeechSenseError as error:
        kind = AirflowException if error.retryable and may_retry else AirflowFailException
        raise kind(f"{type(error).__name__}: {error}") from error
    except (AirflowException, TaskDeferred):
        raise
    except BaseException as error:
        # Airflow's timeouts and its way to stop a task are no Exceptions, and would be retried.
        if may_retry:
            raise
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def end_time(context: Context, timeout: float, execution_timeout: timedelta | None) -> float:
    """Return when a wait must end, in seconds since the epoch.

    Airflow 3.3 does not enforce ``execution_timeout`` while a task is deferred, so it is part of this.

    :param timeout: seconds from now
    """
    ends = time.time() + timeout
    started = getattr(context.get("ti"), "start_date", None)
    if execution_timeout is None or started is None:
        return ends
    allowed = execution_timeout.total_seconds()
    return min(ends, float(started.timestamp()) + allowed - min(_BEFORE_EXECUTION_TIMEOUT, allowed / 4))


def backstop(ends: float) -> timedelta:
    """Return the timeout for ``defer``: later than ``ends``, because Airflow ends the task without a word."""
    return timedelta(seconds=max(0.0, ends - time.time()) + _BACKSTOP_SECONDS)


def seconds(name: str, given: Any) -> float:
    """Return a duration that an operator was given, which a template makes text of.

    :raises ConfigurationError: it is none
    """
    try:
        number = given.total_seconds() if isinstance(given, timedelta) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(given, bool) or not 0 <= number < math.inf:
        raise ConfigurationError(f"{name} is {given!r}.", hint="give a number of seconds, or a timedelta.")
    return number


def rendered(given: Any) -> Any:
    """Return what a templated argument means: a template makes text of everything, of None too.

    :raises ConfigurationError: text that begins like JSON is none
    """
    if not isinstance(given, str):
        return given
    text = given.strip()
    if text in ("", "None"):
        return None
    return parse_json(text) if text.startswith(("{", "[")) else given


def check_trigger(trigger: BaseTrigger) -> None:
    """Check that the arguments of ``trigger`` are JSON, before there is anything to lose.

    :raises ConfigurationError: they are not; Airflow would find that only when it defers the task
    """
    arguments = trigger.serialize()[1]
    try:
        json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"These arguments cannot be handed to the triggerer: {arguments!r}: {error}.",
            hint="give ids and names as text, and durations as finite numbers of seconds.",
        ) from None


def id_list(given: Any) -> list[Any]:
    """Return talk ids as one list, from what templates, XComs and mapped tasks make of them.

    :param given: an id, a list of ids, the output of a mapped task, which is a list of what each of its
        instances returned, what a badge operator returns when it waits, or JSON text of any of these
    """
    given = rendered(given)
    if isinstance(given, Mapping) and "talk_ids" in given:
        given = given["talk_ids"]
    if given is None:
        return []
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        return [given]
    return [each for item in given for each in (item if isinstance(item, list | tuple) else [item])]


def plain_json(value: Any) -> Any:
    """Return ``value`` as XCom on any database takes it: NaN becomes None, NUL characters go."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return value


class ProgressLog:
    """Logs how far an upload is: share, rate and time left.

    :param write: takes a line
    :param every: seconds between lines
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._every = every
        self._clock = clock
        self._start = self._last = clock()

    def __call__(self, sent: int, total: int) -> None:
        """Take note of ``sent`` bytes of ``total``."""
        now = self._clock()
        if now - self._last < self._every:
            return
        self._last = now
        rate = sent / (now - self._start)
        left = timedelta(seconds=round((total - sent) / rate)) if rate else "?"
        self._write(
            f"{sent / total:.0%} sent, {sent / 1e6:,.1f} of {total / 1e6:,.1f} MB, "
            f"{rate / 1e6:.1f} MB/s, {left} left"
        )
