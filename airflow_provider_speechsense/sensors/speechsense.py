"""Waiting until SpeechSense is done: with talks, or with cutting a long recording into talks."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_speechsense.boundary import (
    airflow_errors,
    backstop,
    check_trigger,
    end_time,
    id_list,
    rendered,
    seconds,
)
from airflow_provider_speechsense.exceptions import ConfigurationError, DeadlineExceededError, TalkFailedError
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook
from airflow_provider_speechsense.triggers.speechsense import SpeechSenseBadgeTrigger, SpeechSenseTalkTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_speechsense.api.waits import Event, Wait

    Trigger = SpeechSenseTalkTrigger | SpeechSenseBadgeTrigger


class _WaitSensor(BaseSensorOperator):
    """What the two sensors share: poke, reschedule and deferrable mode over one wait.

    Failed talks and refused credentials fail the task at once; passing errors are ridden out. ``soft_fail``
    and ``never_fail`` make a skip of every failure, the same in every mode.

    :param organization_id: overrides the connection's default, as do ``space_id`` and ``project_id``
    :param wait_for: algorithms whose results are needed; by default all
    :param speechsense_conn_id: the Airflow connection
    :param deferrable: wait in the triggerer, without a worker
    """

    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        organization_id: str | None = None,
        space_id: str | None = None,
        project_id: str | None = None,
        wait_for: Sequence[str] | str | None = None,
        speechsense_conn_id: str = SpeechSenseHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.organization_id = organization_id
        self.space_id = space_id
        self.project_id = project_id
        self.wait_for = wait_for
        self.speechsense_conn_id = speechsense_conn_id
        self.deferrable = deferrable
        self._begun: tuple[Trigger, Wait] | None = None

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once. If that is not the end, defer, or leave it to Airflow to poke again."""
        with self._errors():
            if self._begun is None:
                self._begun = self._begin(context)
            trigger, wait = self._begun
            event = self._look(wait)
        if event is not None:
            return PokeReturnValue(True, self.execute_complete(context, event))
        if self.deferrable:
            timeout = backstop(trigger.end_time)
            self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)
        return False

    def execute_complete(self, context: Context, event: Any = None) -> list[str]:
        """Return the ids of the wait that the trigger reports, or raise what it says went wrong."""
        from airflow_provider_speechsense.api.waits import conclude

        with self._errors():
            try:
                talk_ids: list[str] = conclude(event)["talk_ids"]
            except DeadlineExceededError as error:
                if event["status"] != "timeout":
                    raise
                # Airflow's own, which is not retried.
                raise AirflowSensorTimeout(str(error)) from error
            except TalkFailedError:
                # One that failed need not hold up the others.
                context["ti"].xcom_push(key="ready_talk_ids", value=event.get("talk_ids", []))
                raise
        return talk_ids

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors into Airflow's, and those into a skip if the user wants that."""
        try:
            with airflow_errors():
                yield
        except AirflowException as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise

    def _begin(self, context: Context) -> tuple[Trigger, Wait]:
        # The wait is the trigger's own, so that a look means the same here and there.
        if self.deferrable:
            ends = end_time(context, self.timeout, self.execution_timeout)
            trigger = self._trigger(ends, began=time.time())
        else:
            began = _beginning(context) if self.reschedule else time.time()
            trigger = self._trigger(began + self.timeout, began)
        check_trigger(trigger)
        return trigger, trigger.wait()

    def _look(self, wait: Wait) -> Event | None:
        from airflow_provider_speechsense.api.client import SpeechSenseClient
        from airflow_provider_speechsense.api.polling import Pending

        settings = SpeechSenseHook(self.speechsense_conn_id).get_polling_settings()
        with SpeechSenseClient(settings) as client:
            found = wait.look(client, time.time())
        if isinstance(found, Pending):
            self.log.info("%s.", found.summary)
            return None
        return found

    @abstractmethod
    def _trigger(self, ends: float, began: float) -> Trigger:
        """Return the deferred half.

        :param ends: when to stop, in seconds since the epoch
        :param began: when the wait began, in seconds since the epoch
        """

    def _shared(self) -> dict[str, Any]:
        """Return what both triggers take, as JSON."""
        from airflow_provider_speechsense.api.polling import parse_algorithms

        names = ("organization_id", "space_id", "project_id")
        ids = {name: rendered(getattr(self, name)) for name in names}
        return {
            "wait_for": sorted(parse_algorithms(rendered(self.wait_for))),
            "scope": {name: value for name, value in ids.items() if value},
            "speechsense_conn_id": self.speechsense_conn_id,
            "poll_interval": self.poke_interval,
        }


class SpeechSenseTalkSensor(_WaitSensor):
    """Waits until talks are analysed, and returns their ids.

    A failed talk fails the task, once all others are done, with its id, algorithm and the service's reason.

    :param talk_ids: one id or many; any number is polled with one call for each hundred
    :param wait_for: algorithms whose results are needed, such as ``["SPEECHKIT", "CLASSIFIER"]``; by default
        all, which is the talk's overall state
    :param visibility_timeout: seconds for which an id may be unknown to the service, as a fresh one is
    :param organization_id: overrides the connection's default, as do ``space_id`` and ``project_id``
    :param speechsense_conn_id: the Airflow connection
    :param deferrable: wait in the triggerer, without a worker; the default is Airflow's
        ``[operators] default_deferrable``
    :param poke_interval: seconds between looks (inherited); each look spends some of the Get quota, one
        call for each hundred talks
    :param timeout: seconds to wait in all (inherited)
    """

    template_fields: Sequence[str] = (
        "talk_ids",
        "wait_for",
        "organization_id",
        "space_id",
        "project_id",
        "speechsense_conn_id",
    )

    def __init__(
        self,
        *,
        talk_ids: Sequence[str] | Sequence[Sequence[str]] | str,
        visibility_timeout: float = 600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.talk_ids = talk_ids
        self.visibility_timeout = visibility_timeout

    def _trigger(self, ends: float, began: float) -> SpeechSenseTalkTrigger:
        from airflow_provider_speechsense.api.search import check_talk_ids

        return SpeechSenseTalkTrigger(
            talk_ids=check_talk_ids(id_list(self.talk_ids)),
            visible_by=began + seconds("visibility_timeout", self.visibility_timeout),
            end_time=ends,
            **self._shared(),
        )


class SpeechSenseBadgeSensor(_WaitSensor):
    """Waits until a long recording is cut into talks and these are analysed, and returns the talks' ids.

    :param operation_id: what ``SpeechSenseBadgeOperator`` returned
    :param wait_for_talks: False to be done when the talks are made, before they are analysed
    :param wait_for: algorithms whose results are needed; by default all
    :param organization_id: overrides the connection's default, as do ``space_id`` and ``project_id``
    :param speechsense_conn_id: the Airflow connection
    :param deferrable: wait in the triggerer, without a worker; the default is Airflow's
        ``[operators] default_deferrable``
    :param poke_interval: seconds between looks (inherited)
    :param timeout: seconds to wait in all (inherited)
    """

    template_fields: Sequence[str] = (
        "operation_id",
        "wait_for",
        "organization_id",
        "space_id",
        "project_id",
        "speechsense_conn_id",
    )

    def __init__(self, *, operation_id: str, wait_for_talks: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.operation_id = operation_id
        self.wait_for_talks = wait_for_talks

    def _trigger(self, ends: float, began: float) -> SpeechSenseBadgeTrigger:
        operation_id = rendered(self.operation_id)
        if isinstance(operation_id, Mapping):
            # What the operator returns when it waits.
            operation_id = operation_id.get("operation_id")
        if not isinstance(operation_id, str):
            raise ConfigurationError(
                f"operation_id is {self.operation_id!r}.", hint="give what SpeechSenseBadgeOperator returned."
            )
        return SpeechSenseBadgeTrigger(
            operation_id=operation_id,
            wait_for_talks=self.wait_for_talks,
            end_time=ends,
            **self._shared(),
        )


def _beginning(context: Context) -> float:
    """Return when a rescheduled wait began, in seconds since the epoch: each look is a process of its own."""
    ti: Any = context.get("ti")
    first = getattr(ti, "get_first_reschedule_date", None)
    # Airflow 2 keeps the first start in start_date.
    began = first(context) if first else getattr(ti, "start_date", None)
    return float(began.timestamp()) if began else time.time()
