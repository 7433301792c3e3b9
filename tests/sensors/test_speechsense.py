"""A sensor waits the same way in each of Airflow's modes, and says what it did not get."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_speechsense.api import SpeechSenseClient
from airflow_provider_speechsense.api.models import Algorithm
from airflow_provider_speechsense.emulator import BadgeFault, Emulator, Fault, ManualClock, TalkFault
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    OperationFailedError,
    ServiceUnavailableError,
    TalkFailedError,
)
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook
from airflow_provider_speechsense.sensors.speechsense import SpeechSenseBadgeSensor, SpeechSenseTalkSensor
from airflow_provider_speechsense.triggers import speechsense as triggers
from tests.helpers import BADGE, BADGE_METADATA, CALL, LONG, METADATA, Connect, TaskInstance, as_xcom

pytestmark = pytest.mark.usefixtures("connect")

Context = dict[str, Any]


@pytest.fixture
def client(connect: Connect) -> SpeechSenseClient:
    return SpeechSenseHook().get_conn()


def upload(client: SpeechSenseClient) -> str:
    return client.upload(CALL, METADATA)


def talk_sensor(talk_ids: Any, **arguments: Any) -> SpeechSenseTalkSensor:
    return SpeechSenseTalkSensor(
        task_id="wait", talk_ids=talk_ids, **{"poke_interval": 0, "timeout": 3600, **arguments}
    )


def badge_sensor(operation_id: Any, **arguments: Any) -> SpeechSenseBadgeSensor:
    return SpeechSenseBadgeSensor(
        task_id="wait", operation_id=operation_id, **{"poke_interval": 0, "timeout": 3600, **arguments}
    )


@pytest.fixture
def finish(clock: ManualClock, our_time: None, monkeypatch: pytest.MonkeyPatch, context: Context) -> Any:
    """Run a sensor to its end in its mode, the triggerer's part included, on the emulator's clock."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    monkeypatch.setattr(triggers, "_sleep", sleep)

    def run(sensor: Any) -> Any:
        if not sensor.deferrable:
            for _ in range(100):
                if done := sensor.poke(context):
                    return as_xcom(done.xcom_value)
                clock.advance(5)
                if sensor.reschedule:
                    # Each look is a process of its own.
                    sensor = type(sensor)(**_arguments_of(sensor))
            raise AssertionError("it pokes for ever")
        try:
            return as_xcom(sensor.execute(context))
        except TaskDeferred as deferred:
            event = asyncio.run(_event_of(deferred.trigger))
            # A task that comes back is made anew.
            again = type(sensor)(**_arguments_of(sensor))
            return as_xcom(
                again.resume_execution(
                    deferred.method_name, {"event": json.loads(json.dumps(event))}, context
                )
            )

    return run


async def _event_of(trigger: Any) -> Any:
    path, arguments = trigger.serialize()
    again = getattr(triggers, path.rpartition(".")[2])(**json.loads(json.dumps(arguments)))
    (event,) = [event.payload async for event in again.run()]
    return event


def _arguments_of(sensor: Any) -> dict[str, Any]:
    names = ("task_id", "poke_interval", "timeout", "soft_fail", "never_fail", "deferrable", "mode")
    own = ("talk_ids",) if isinstance(sensor, SpeechSenseTalkSensor) else ("operation_id", "wait_for_talks")
    return {name: getattr(sensor, name) for name in (*names, *own)}


MODES = [{"mode": "poke"}, {"mode": "reschedule"}, {"mode": "poke", "deferrable": True}]
every_mode = pytest.mark.parametrize("mode", MODES, ids=["poke", "reschedule", "deferrable"])


# --- the end of a wait, in every mode


@every_mode
def test_talks_are_waited_for_and_their_ids_returned(
    mode: dict[str, Any], client: SpeechSenseClient, finish: Any
) -> None:
    talk_ids = [upload(client), upload(client)]
    assert finish(talk_sensor(talk_ids, **mode)) == talk_ids


@every_mode
def test_a_badge_is_waited_for_and_the_ids_of_its_talks_returned(
    mode: dict[str, Any], client: SpeechSenseClient, emulator: Emulator, finish: Any
) -> None:
    operation = client.upload_badge(BADGE, BADGE_METADATA)
    talk_ids = finish(badge_sensor(operation.id, **mode))
    assert talk_ids == [talk.id for talk in emulator.talks]
    states = {client_state["talk_state"]["processing_state"] for client_state in client.get(talk_ids)}
    assert states == {"PROCESSING_STATE_SUCCESS"}


@every_mode
def test_the_analysis_of_a_badges_talks_need_not_be_waited_for(
    mode: dict[str, Any], client: SpeechSenseClient, emulator: Emulator, finish: Any
) -> None:
    operation = client.upload_badge(BADGE, BADGE_METADATA)
    assert len(finish(badge_sensor(operation.id, wait_for_talks=False, **mode))) == 3
    assert "TalkService/Get" not in {call.method for call in emulator.calls}


@every_mode
def test_a_failed_talk_fails_the_task_naming_talk_algorithm_and_text(
    mode: dict[str, Any], client: SpeechSenseClient, emulator: Emulator, finish: Any, context: Context
) -> None:
    emulator.script(TalkFault(algorithm=Algorithm.SPEECHKIT, message="the recording is silent"))
    failed, good = upload(client), upload(client)
    with pytest.raises(AirflowFailException) as caught:
        finish(talk_sensor([failed, good], **mode))
    cause = caught.value.__cause__
    assert isinstance(cause, TalkFailedError)
    assert list(cause.reasons) == [failed]
    text = str(caught.value)
    assert f"{failed} failed in SPEECHKIT: " in text
    assert "INTERNAL the recording is silent" in text
    assert "1 of 2 talks" in text
    assert "What to do: look at the recordings named" in text
    # For those who go on with the others.
    assert context["ti"].pushed == {"ready_talk_ids": [good]}


@every_mode
def test_a_badge_that_cannot_be_cut_fails_the_task_with_the_reason(
    mode: dict[str, Any], client: SpeechSenseClient, emulator: Emulator, finish: Any
) -> None:
    emulator.script(BadgeFault(message="no speech in it"))
    operation = client.upload_badge(BADGE, BADGE_METADATA)
    with pytest.raises(AirflowFailException, match="no speech in it") as caught:
        finish(badge_sensor(operation.id, **mode))
    assert isinstance(caught.value.__cause__, OperationFailedError)


@every_mode
def test_passing_errors_are_ridden_out(
    mode: dict[str, Any], client: SpeechSenseClient, emulator: Emulator, finish: Any
) -> None:
    talk_id = upload(client)
    for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL"):
        emulator.script(Fault(method="TalkService/Get", code=code, count=2))
    assert finish(talk_sensor(talk_id, **mode)) == [talk_id]


@pytest.mark.parametrize("mode", [MODES[0], MODES[2]], ids=["poke", "deferrable"])
def test_a_service_that_stays_away_fails_the_task_and_leaves_its_retries(
    mode: dict[str, Any], client: SpeechSenseClient, emulator: Emulator, finish: Any
) -> None:
    talk_id = upload(client)
    emulator.script(Fault(method="TalkService/Get", code="UNAVAILABLE", count=None))
    with pytest.raises(AirflowException, match="ServiceUnavailableError: SpeechSense is not") as caught:
        finish(talk_sensor(talk_id, **mode))
    assert type(caught.value) is AirflowException
    assert isinstance(caught.value.__cause__, ServiceUnavailableError)


@every_mode
def test_refused_credentials_fail_the_task_at_once(
    mode: dict[str, Any], connect: Connect, emulator: Emulator, finish: Any
) -> None:
    connect(password="revoked")
    with pytest.raises(AirflowFailException, match="does not accept the credentials"):
        finish(talk_sensor("t1", **mode))
    assert len(emulator.calls) == 1


@every_mode
@pytest.mark.parametrize("quietly", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("fault", ["failed talk", "refused credentials", "service away", "late"])
def test_a_sensor_that_may_not_fail_skips_in_every_mode_and_says_why(
    fault: str,
    quietly: str,
    mode: dict[str, Any],
    client: SpeechSenseClient,
    emulator: Emulator,
    connect: Connect,
    finish: Any,
) -> None:
    talk_id = upload(client)
    # A rescheduled sensor remembers nothing and rides out errors until its time is over.
    late = fault == "late" or (fault == "service away" and mode["mode"] == "reschedule")
    sensor = talk_sensor(talk_id, **mode, **{quietly: True}, timeout=0 if late else 3600)
    if fault == "failed talk":
        emulator.script(TalkFault(talk_id=talk_id, algorithm=Algorithm.SPEECHKIT))
    elif fault == "refused credentials":
        connect(password="revoked")
    elif fault == "service away":
        emulator.script(Fault(method="TalkService/Get", code="UNAVAILABLE", count=None))
    with pytest.raises(AirflowSkipException) as caught:
        finish(sensor)
    reasons = []
    error: BaseException | None = caught.value
    while error:
        reasons.append(str(error))
        error = error.__cause__
    named = {"refused credentials": "credentials", "service away": "not available"}.get(fault, talk_id)
    named = talk_id if late else named
    assert any(named in reason for reason in reasons)


@every_mode
def test_a_wait_that_is_over_ends_with_airflows_own_timeout_naming_the_ids(
    mode: dict[str, Any], client: SpeechSenseClient, finish: Any
) -> None:
    talk_id = upload(client)
    with pytest.raises(AirflowSensorTimeout, match=talk_id) as caught:
        finish(talk_sensor(talk_id, timeout=0, **mode))
    assert isinstance(caught.value.__cause__, DeadlineExceededError)
    assert "wait again with a sensor on the same ids" in str(caught.value)


# --- what is asked


def test_a_wait_for_some_algorithms_does_not_wait_for_the_others(
    client: SpeechSenseClient, clock: ManualClock, context: Context
) -> None:
    talk_id = upload(client)
    clock.advance(1)
    assert talk_sensor(talk_id).poke(context) is False
    assert talk_sensor(talk_id, wait_for=["SPEECHKIT"]).poke(context)
    assert talk_sensor(talk_id, wait_for="ALGORITHM_SPEECHKIT").poke(context)


def test_ids_of_the_sensor_beat_those_of_the_connection(
    emulator: Emulator, context: Context, connect: Connect
) -> None:
    connect(extra={"space_id": "s1", "project_id": "p1"})
    talk_sensor("t1", space_id="s2", organization_id="").poke(context)
    request = emulator.calls[-1].request
    assert (request.organization_id, request.space_id, request.project_id) == ("", "s2", "p1")


def test_what_a_mapped_task_returned_can_be_waited_for(
    client: SpeechSenseClient, finish: Any, clock: ManualClock
) -> None:
    first, second, third = upload(client), upload(client), upload(client)
    clock.advance(LONG)
    assert finish(talk_sensor([[first], [second, third]])) == [first, second, third]


def test_what_a_badge_operator_returned_after_its_wait_can_be_waited_for(
    client: SpeechSenseClient, emulator: Emulator, finish: Any
) -> None:
    operation = client.upload_badge(BADGE, BADGE_METADATA)
    talk_ids = finish(badge_sensor(operation.id, wait_for_talks=False))
    made = {"operation_id": operation.id, "badge_id": "b", "talk_ids": talk_ids}
    assert finish(badge_sensor(made)) == talk_ids
    assert finish(talk_sensor(made)) == talk_ids
    assert finish(talk_sensor(json.dumps(made))) == talk_ids


def test_a_thousand_talks_are_asked_for_with_ten_calls_a_look(emulator: Emulator, context: Context) -> None:
    talk_sensor([f"aud{number:04}" for number in range(1000)]).poke(context)
    assert [call.method for call in emulator.calls] == ["TalkService/Get"] * 10


def test_a_talk_that_is_not_visible_yet_is_waited_for_and_one_that_stays_so_is_named(
    emulator: Emulator, context: Context
) -> None:
    assert talk_sensor("aud00nowhere").poke(context) is False
    with pytest.raises(AirflowFailException, match="does not know the talks aud00nowhere"):
        talk_sensor("aud00nowhere", visibility_timeout=0).poke(context)


class TaskInstance3(TaskInstance):
    """One of Airflow 3, which has to be asked when the wait began; Airflow 2 keeps it in start_date."""

    first: datetime | None = None

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first


def began_at(context: Any) -> tuple[float, float]:
    """Return the end of a rescheduled wait of 100 s, and until when a talk of it may be unknown."""
    sensor = talk_sensor("t1", mode="reschedule", timeout=100, visibility_timeout=10)
    arguments = sensor._begin(context)[0].serialize()[1]
    return arguments["end_time"], arguments["visible_by"]


def test_a_rescheduled_look_knows_when_the_wait_began() -> None:
    first = datetime(2026, 3, 12, tzinfo=UTC)
    again3 = TaskInstance3(start_date=datetime.now(UTC))
    again3.first = first
    for again in (again3, TaskInstance(start_date=first)):
        assert began_at({"ti": again}) == (first.timestamp() + 100, first.timestamp() + 10)


def test_the_first_look_of_a_rescheduled_wait_begins_it() -> None:
    for ti in (TaskInstance3(), TaskInstance()):
        ends, visible_by = began_at({"ti": ti})
        assert ends == pytest.approx(time.time() + 100, abs=5)
        assert visible_by == pytest.approx(time.time() + 10, abs=5)


# --- deferring


def deferral(sensor: Any, context: Context) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(context)
    return caught.value


def test_a_wait_that_is_over_at_once_is_not_deferred(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock, context: Context
) -> None:
    talk_id = upload(client)
    clock.advance(LONG)
    assert talk_sensor(talk_id, deferrable=True).execute(context) == [talk_id]
    assert [call.method for call in emulator.calls[1:]] == ["TalkService/Get"]


def test_a_deferred_wait_has_an_absolute_deadline_and_airflow_a_later_one(
    client: SpeechSenseClient, context: Context
) -> None:
    deferred = deferral(talk_sensor(upload(client), deferrable=True, timeout=1000, poke_interval=7), context)
    arguments = deferred.trigger.serialize()[1]
    assert arguments["end_time"] == pytest.approx(time.time() + 1000, abs=5)
    assert arguments["visible_by"] == pytest.approx(time.time() + 600, abs=5)
    assert arguments["poll_interval"] == 7
    assert deferred.method_name == "execute_complete"
    assert deferred.timeout is not None
    assert deferred.timeout.total_seconds() == pytest.approx(1600, abs=5)


def test_a_deferred_wait_ends_before_the_tasks_execution_timeout(
    client: SpeechSenseClient, context: Context
) -> None:
    started = datetime.now(UTC) - timedelta(seconds=100)
    context["ti"].start_date = started
    sensor = talk_sensor(upload(client), deferrable=True, execution_timeout=timedelta(seconds=500))
    arguments = deferral(sensor, context).trigger.serialize()[1]
    assert arguments["end_time"] == pytest.approx(started.timestamp() + 485, abs=5)


def test_arguments_of_the_sensor_reach_the_trigger(client: SpeechSenseClient, context: Context) -> None:
    sensor = talk_sensor(
        [[upload(client)]], deferrable=True, wait_for="speechkit", space_id="s2", project_id="p2"
    )
    arguments = deferral(sensor, context).trigger.serialize()[1]
    assert arguments["wait_for"] == ["SPEECHKIT"]
    assert arguments["scope"] == {"space_id": "s2", "project_id": "p2"}
    assert len(arguments["talk_ids"]) == 1
    operation = client.upload_badge(BADGE, BADGE_METADATA)
    sensor = badge_sensor(operation.id, deferrable=True, wait_for_talks=False)
    arguments = deferral(sensor, context).trigger.serialize()[1]
    assert arguments["operation_id"] == operation.id
    assert arguments["wait_for_talks"] is False


@pytest.mark.parametrize("event", [None, {}, "done", {"status": "napping"}, {"status": "success"}])
@pytest.mark.parametrize("sensor", [talk_sensor("t1"), badge_sensor("o1")])
def test_an_event_of_another_release_fails_the_task(sensor: Any, event: Any, context: Context) -> None:
    with pytest.raises(AirflowFailException, match="which this release does not understand"):
        sensor.execute_complete(context, event)


def test_a_look_that_got_no_answer_in_time_is_not_the_end_of_the_sensors_time(context: Context) -> None:
    event = {"status": "error", "error": "DeadlineExceededError", "message": "No answer", "retryable": True}
    with pytest.raises(AirflowException, match="DeadlineExceededError: No answer") as caught:
        talk_sensor("t1").execute_complete(context, event)
    assert type(caught.value) is AirflowException, "a retry may help, unlike after the sensor's own timeout"


# --- bad input


@pytest.mark.parametrize(
    ("sensor", "text"),
    [
        (talk_sensor([]), "talk_ids is empty"),
        (talk_sensor(None), "talk_ids is empty"),
        (talk_sensor(["t1", 7]), r"talk_ids\[1\] is 7, not a talk id"),
        (talk_sensor("['t1']"), "tojson filter of the template, or an XComArg"),
        (talk_sensor("t1", wait_for=["MAGIC"]), "wait_for names MAGIC.*choose from SPEECHKIT"),
        (badge_sensor(""), "operation_id is ''. What to do: give what SpeechSenseBadgeOperator returned"),
        (badge_sensor(["o1"]), "give what SpeechSenseBadgeOperator returned"),
        (talk_sensor("t1", visibility_timeout="soon"), "visibility_timeout is 'soon'"),
        (badge_sensor("o1", wait_for=["MAGIC"]), "wait_for names MAGIC"),
    ],
)
@pytest.mark.parametrize("deferrable", [False, True])
def test_arguments_that_mean_nothing_are_refused_before_anything_is_asked(
    deferrable: bool, sensor: Any, text: str, emulator: Emulator, context: Context
) -> None:
    sensor.deferrable = deferrable
    with pytest.raises(AirflowFailException, match=text) as caught:
        sensor.poke(context)
    assert isinstance(caught.value.__cause__, ConfigurationError | InvalidRequestError)
    assert emulator.calls == []


@pytest.mark.usefixtures("our_time")
def test_an_outage_is_ridden_out_for_minutes_however_often_a_sensor_pokes(
    client: SpeechSenseClient, emulator: Emulator, clock: ManualClock, context: Context
) -> None:
    emulator.script(Fault(method="TalkService/Get", code="UNAVAILABLE", count=None))
    sensor = talk_sensor(upload(client))
    for _ in range(24):
        assert sensor.poke(context) is False
        clock.advance(10)
    with pytest.raises(AirflowException, match="SpeechSense is not available"):
        sensor.poke(context)


def test_a_failure_from_a_release_that_did_not_name_the_ready_talks_is_understood(
    context: dict[str, Any],
) -> None:
    sensor = SpeechSenseTalkSensor(task_id="wait", talk_ids=["t1"])
    with pytest.raises(AirflowFailException, match="1 of 1"):
        sensor.execute_complete(
            context, {"status": "failed", "message": "1 of 1", "reasons": {"t1": "noise"}}
        )
