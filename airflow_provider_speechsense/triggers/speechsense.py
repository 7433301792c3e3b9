"""The deferred half of the two waits: sleep, look, and send exactly one event.

Airflow stays out of our threads: the connection is resolved through ``sync_to_async``, which works on every
Airflow, and after that only asyncio and a small pool of this package run. The pool's threads call the same
blocking client as everything else and never Airflow.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

if TYPE_CHECKING:
    from airflow_provider_speechsense.api.client import SpeechSenseClient
    from airflow_provider_speechsense.api.polling import Pending
    from airflow_provider_speechsense.api.settings import ClientSettings
    from airflow_provider_speechsense.api.waits import Event, Wait

#: Looks under way at once in one triggerer. The default executor belongs to all triggers: filling it would
#: starve the others.
_THREADS = 32
#: Shortest sleep before a look, in seconds: an event that comes at once may overtake its own task in the
#: scheduler, which then fails it.
_SHORTEST_SLEEP = 1.0

_sleep = asyncio.sleep


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="speechsense")


class _WaitTrigger(BaseTrigger):
    """Looks until the wait is over. Arguments are JSON, and a wire format between releases.

    :param speechsense_conn_id: the Airflow connection
    :param poll_interval: seconds between looks
    :param end_time: when to stop, in seconds since the epoch
    """

    def __init__(self, *, speechsense_conn_id: str, poll_interval: float, end_time: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.speechsense_conn_id = speechsense_conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class and the arguments that make it anew."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {
            "speechsense_conn_id": self.speechsense_conn_id,
            "poll_interval": self.poll_interval,
            "end_time": self.end_time,
            **self._arguments(),
        }

    @abstractmethod
    def wait(self) -> Wait:
        """Return what to look at, from the beginning."""

    @abstractmethod
    def _arguments(self) -> dict[str, Any]:
        """Return the arguments that a subclass adds."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send one event, whatever happens."""
        yield TriggerEvent(await self._event())

    async def _event(self) -> Event:
        from airflow_provider_speechsense.api.waits import error_event

        try:
            settings = await sync_to_async(self._settings)()
            return await self._watch(settings)
        except Exception as error:
            # An exception out of run() would fail the task without a word from the operator.
            self.log.exception("The wait broke.")
            return error_event(error)

    def _settings(self) -> ClientSettings:
        from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook

        return SpeechSenseHook(self.speechsense_conn_id).get_polling_settings()

    async def _watch(self, settings: ClientSettings) -> Event:
        from airflow_provider_speechsense.api.client import SpeechSenseClient
        from airflow_provider_speechsense.api.polling import Pending

        wait = self.wait()
        pause = min(self.poll_interval, self.end_time - time.time())
        with SpeechSenseClient(settings) as client:
            while True:
                await _sleep(max(_SHORTEST_SLEEP, pause))
                found = await _look(wait, client)
                if not isinstance(found, Pending):
                    return found
                self.log.info("%s; looking again in %.0f s.", found.summary, found.seconds)
                pause = found.seconds


async def _look(wait: Wait, client: SpeechSenseClient) -> Pending | Event:
    # In a copy of this context, by which Airflow tells whose log a line belongs to.
    run = contextvars.copy_context().run

    def look() -> Pending | Event:
        # Here, because a look may have waited for a thread.
        return wait.look(client, time.time())

    return await asyncio.get_running_loop().run_in_executor(_pool(), run, look)


class SpeechSenseTalkTrigger(_WaitTrigger):
    """Waits until talks are analysed, see ``SpeechSenseTalkSensor``.

    :param talk_ids: ids to wait for
    :param wait_for: names of algorithms, none for the overall state
    :param scope: ids that override the connection's defaults
    :param visible_by: until when an id may be unknown to the service, in seconds since the epoch
    """

    def __init__(
        self,
        *,
        talk_ids: list[str],
        visible_by: float,
        wait_for: list[str] | None = None,
        scope: dict[str, str] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.talk_ids = talk_ids
        self.visible_by = visible_by
        self.wait_for = wait_for
        self.scope = scope

    def wait(self) -> Wait:
        from airflow_provider_speechsense.api.waits import TalkWait

        return TalkWait(**self._arguments(), poll_interval=self.poll_interval, end_time=self.end_time)

    def _arguments(self) -> dict[str, Any]:
        return {
            "talk_ids": self.talk_ids,
            "visible_by": self.visible_by,
            "wait_for": self.wait_for,
            "scope": self.scope,
        }


class SpeechSenseBadgeTrigger(_WaitTrigger):
    """Waits for the operation of an UploadBadge and its talks, see ``SpeechSenseBadgeSensor``.

    :param operation_id: what UploadBadge returned
    :param wait_for_talks: whether to wait for the analysis of the talks too
    :param wait_for: names of algorithms, none for the overall state
    :param scope: ids that override the connection's defaults
    """

    def __init__(
        self,
        *,
        operation_id: str,
        wait_for_talks: bool = True,
        wait_for: list[str] | None = None,
        scope: dict[str, str] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.operation_id = operation_id
        self.wait_for_talks = wait_for_talks
        self.wait_for = wait_for
        self.scope = scope

    def wait(self) -> Wait:
        from airflow_provider_speechsense.api.waits import BadgeWait

        return BadgeWait(**self._arguments(), poll_interval=self.poll_interval, end_time=self.end_time)

    def _arguments(self) -> dict[str, Any]:
        return {
            "operation_id": self.operation_id,
            "wait_for_talks": self.wait_for_talks,
            "wait_for": self.wait_for,
            "scope": self.scope,
        }
