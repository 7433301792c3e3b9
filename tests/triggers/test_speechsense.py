"""A deferred wait sends one event, whatever happens, and keeps Airflow out of its threads."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import json
import logging
import threading
import time
from types import FrameType
from typing import Any

import pytest

from airflow_provider_speechsense.api import SpeechSenseClient
from airflow_provider_speechsense.api.models import Algorithm
from airflow_provider_speechsense.api.polling import Pending
from airflow_provider_speechsense.api.waits import Wait
from airflow_provider_speechsense.emulator import Emulator, Fault, ManualClock, TalkFault
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook
from airflow_provider_speechsense.triggers import speechsense as module
from airflow_provider_speechsense.triggers.speechsense import SpeechSenseBadgeTrigger, SpeechSenseTalkTrigger
from tests.helpers import BADGE, BADGE_METADATA, CHAT, LONG, Connect

pytestmark = pytest.mark.usefixtures("connect")


@pytest.fixture
def slept(clock: ManualClock, our_time: None, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have the triggers' sleep pass on the emulator's clock."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(module, "_sleep", sleep)
    return pauses


@pytest.fixture
def client(connect: Connect) -> SpeechSenseClient:
    return SpeechSenseHook().get_conn()


def upload(client: SpeechSenseClient) -> str:
    return client.upload_text(CHAT["messages"], CHAT["metadata"])


def talk_trigger(*talk_ids: str, **changes: Any) -> SpeechSenseTalkTrigger:
    arguments = {
        "talk_ids": list(talk_ids),
        "visible_by": time.time() + 600,
        "speechsense_conn_id": "speechsense_default",
        "poll_interval": 5.0,
        "end_time": time.time() + 3600,
        **changes,
    }
    return SpeechSenseTalkTrigger(**arguments)


def badge_trigger(operation_id: str, **changes: Any) -> SpeechSenseBadgeTrigger:
    arguments = {
        "operation_id": operation_id,
        "speechsense_conn_id": "speechsense_default",
        "poll_interval": 5.0,
        "end_time": time.time() + 3600,
        **changes,
    }
    return SpeechSenseBadgeTrigger(**arguments)


async def events_of(trigger: Any) -> list[dict[str, Any]]:
    return [event.payload async for event in trigger.run()]


def run(trigger: Any) -> dict[str, Any]:
    """Run a trigger to its end and return its one event."""
    (event,) = asyncio.run(events_of(trigger))
    assert json.loads(json.dumps(event)) == event, "events travel as JSON"
    return event


# --- the wire format


@pytest.mark.parametrize(
    "trigger",
    [
        talk_trigger("t1", "t2", wait_for=["SPEECHKIT"], scope={"space_id": "s"}),
        talk_trigger("t1"),
        badge_trigger("o1", wait_for_talks=False, wait_for=["CLASSIFIER"], scope={"project_id": "p"}),
        badge_trigger("o1"),
    ],
)
def test_a_trigger_comes_back_from_its_json_as_it_was(trigger: Any) -> None:
    path, arguments = trigger.serialize()
    module_name, _, class_name = path.rpartition(".")
    again = getattr(importlib.import_module(module_name), class_name)(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    assert type(again) is type(trigger)


def test_the_arguments_of_triggers_are_a_contract_between_releases() -> None:
    shared = {"speechsense_conn_id", "poll_interval", "end_time", "wait_for", "scope"}
    path, arguments = talk_trigger("t1").serialize()
    assert path == "airflow_provider_speechsense.triggers.speechsense.SpeechSenseTalkTrigger"
    assert set(arguments) == shared | {"talk_ids", "visible_by"}
    path, arguments = badge_trigger("o1").serialize()
    assert path == "airflow_provider_speechsense.triggers.speechsense.SpeechSenseBadgeTrigger"
    assert set(arguments) == shared | {"operation_id", "wait_for_talks"}


def test_arguments_hold_no_secret(emulator: Emulator) -> None:
    assert emulator.api_key not in json.dumps(talk_trigger("t1").serialize()[1])


# --- waiting


def test_a_trigger_sleeps_first_and_then_looks_until_the_talks_are_done(
    client: SpeechSenseClient, emulator: Emulator, slept: list[float]
) -> None:
    talk_id = upload(client)
    assert run(talk_trigger(talk_id, poll_interval=1.5)) == {"status": "success", "talk_ids": [talk_id]}
    # An event that comes at once may overtake its own task in the scheduler.
    assert slept == [1.5, 1.5]
    assert [call.method for call in emulator.calls[1:]] == ["TalkService/Get"] * 2


def test_even_a_wait_without_an_interval_sleeps_a_second_first(
    client: SpeechSenseClient, slept: list[float]
) -> None:
    talk_id = upload(client)
    run(talk_trigger(talk_id, poll_interval=0.0))
    assert slept == [1.0, 1.0]


def test_a_badge_is_waited_for_with_its_talks(
    client: SpeechSenseClient, emulator: Emulator, slept: list[float]
) -> None:
    operation = client.upload_badge(BADGE, BADGE_METADATA)
    event = run(badge_trigger(operation.id))
    assert event["status"] == "success"
    assert event["operation_id"] == operation.id
    assert event["talk_ids"] == [talk.id for talk in emulator.talks]


def test_a_failed_talk_is_named_in_the_event(
    client: SpeechSenseClient, emulator: Emulator, slept: list[float]
) -> None:
    emulator.script(TalkFault(algorithm=Algorithm.CLASSIFIER))
    failed = upload(client)
    event = run(talk_trigger(failed))
    assert event["status"] == "failed"
    assert f"{failed} failed in CLASSIFIER" in event["message"]


def test_passing_errors_are_ridden_out_with_growing_pauses(
    client: SpeechSenseClient, emulator: Emulator, slept: list[float]
) -> None:
    talk_id = upload(client)
    emulator.script(Fault(method="TalkService/Get", code="UNAVAILABLE", count=5))
    assert run(talk_trigger(talk_id, poll_interval=1.0))["status"] == "success"
    assert slept == [1, 1, 2, 4, 8, 16]


def test_a_service_that_stays_away_ends_the_wait_and_leaves_a_retry(
    client: SpeechSenseClient, emulator: Emulator, slept: list[float]
) -> None:
    talk_id = upload(client)
    emulator.script(Fault(method="TalkService/Get", code="UNAVAILABLE", count=None))
    event = run(talk_trigger(talk_id))
    assert event["status"] == "error"
    assert event["retryable"] is True
    assert "not available" in event["message"]


def test_the_deadline_is_absolute_so_that_a_restart_does_not_move_it() -> None:
    end_time = time.time() + 3
    first = talk_trigger("t1", end_time=end_time)
    # What a restarted triggerer makes of the arguments in the database.
    again = SpeechSenseTalkTrigger(**json.loads(json.dumps(first.serialize()[1])))
    assert again.serialize()[1]["end_time"] == end_time


def test_a_wait_whose_deadline_passed_while_no_triggerer_ran_looks_once_more(
    client: SpeechSenseClient, slept: list[float]
) -> None:
    talk_id = upload(client)
    event = run(talk_trigger(talk_id, end_time=time.time() - 60))
    assert event["status"] == "timeout"
    assert talk_id in event["message"]
    assert slept == [1.0]


def test_the_last_look_comes_at_the_deadline(client: SpeechSenseClient, slept: list[float]) -> None:
    run(talk_trigger(upload(client), poll_interval=300.0, end_time=time.time() + 30))
    assert slept == [pytest.approx(30, abs=5)]


def test_twenty_waits_share_one_triggerer(
    client: SpeechSenseClient, clock: ManualClock, slept: list[float]
) -> None:
    talk_ids = [upload(client) for _ in range(20)]

    async def all_of_them() -> list[list[dict[str, Any]]]:
        return await asyncio.gather(*(events_of(talk_trigger(talk_id)) for talk_id in talk_ids))

    events = asyncio.run(all_of_them())
    assert events == [[{"status": "success", "talk_ids": [talk_id]}] for talk_id in talk_ids]


# --- one event, whatever happens


def test_a_connection_that_is_missing_is_an_event(slept: list[float]) -> None:
    event = run(talk_trigger("t1", speechsense_conn_id="speechsense_nowhere"))
    assert event["status"] == "error"
    assert "speechsense_nowhere" in event["message"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"password": ""}, "The connection has no API key"),
        ({"extra": {"tls": "perhaps"}}, "tls in the connection is 'perhaps'"),
        ({"host": "https://127.0.0.1"}, "is not host:port"),
    ],
)
def test_a_client_that_cannot_be_built_is_an_event(
    changes: dict[str, Any], text: str, connect: Connect, slept: list[float]
) -> None:
    connect(**changes)
    event = run(talk_trigger("t1"))
    assert event["status"] == "error"
    assert event["retryable"] is False
    assert event["error"] == "ConfigurationError"
    assert text in event["message"]
    assert event["hint"]
    assert slept == []


def test_an_argument_of_another_release_is_an_event(slept: list[float]) -> None:
    event = run(talk_trigger("t1", wait_for=["TELEPATHY"]))
    assert event["status"] == "error"
    assert "wait_for names TELEPATHY" in event["message"]


def test_a_bug_is_an_event_that_leaves_a_retry(
    client: SpeechSenseClient, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, ids: Any, **scope: Any) -> Any:
        raise ZeroDivisionError("one look too many")

    monkeypatch.setattr(SpeechSenseClient, "statuses", broken)
    event = run(talk_trigger("t1"))
    assert event == {
        "status": "error",
        "message": "ZeroDivisionError: one look too many",
        "retryable": True,
    }


def test_a_cancelled_trigger_sends_nothing_and_does_not_swallow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def cancel_in_its_sleep() -> None:
        asleep = asyncio.Event()

        async def sleep(seconds: float) -> None:
            asleep.set()
            await asyncio.Event().wait()

        async def watch() -> None:
            async for event in talk_trigger("t1").run():
                seen.append(event)

        monkeypatch.setattr(module, "_sleep", sleep)
        watching = asyncio.create_task(watch())
        await asleep.wait()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(cancel_in_its_sleep())
    assert seen == []


def test_cancelling_breaks_off_a_look_that_hangs(
    client: SpeechSenseClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk_id = upload(client)
    emulator.script(Fault(method="TalkService/Get", stall_seconds=LONG))
    looking = threading.Event()
    in_its_look = asyncio.Event()

    class Watched(SpeechSenseTalkTrigger):
        def wait(self) -> Wait:
            wait = super().wait()
            look = wait.look

            loop = asyncio.get_running_loop()

            def watched_look(client: Any, now: float) -> Any:
                looking.set()
                loop.call_soon_threadsafe(in_its_look.set)
                try:
                    return look(client, now)
                finally:
                    looking.clear()

            monkeypatch.setattr(wait, "look", watched_look)
            return wait

    async def no_sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(module, "_sleep", no_sleep)

    async def cancel_in_its_look() -> None:
        watching = asyncio.create_task(events_of(Watched(**talk_trigger(talk_id).serialize()[1])))
        await in_its_look.wait()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(cancel_in_its_look())
    give_up = time.monotonic() + 10
    while looking.is_set() and time.monotonic() < give_up:
        time.sleep(0.005)
    assert not looking.is_set(), "the thread still hangs in its look"


# --- threads


def test_no_thread_of_ours_calls_airflow(
    client: SpeechSenseClient, emulator: Emulator, slept: list[float]
) -> None:
    emulator.script(TalkFault(algorithm=Algorithm.CLASSIFIER))
    talk_id = upload(client)
    called: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and threading.current_thread().name.startswith("speechsense"):
            called.add(name)

    module._pool.cache_clear()
    threading.setprofile(note)
    # Logging ends in whatever handlers Airflow has set; nothing else of it may run there.
    logging.disable()
    try:
        assert run(talk_trigger(talk_id))["status"] == "failed"
    finally:
        logging.disable(logging.NOTSET)
        threading.setprofile(None)
        module._pool().shutdown()
        module._pool.cache_clear()
    assert "airflow_provider_speechsense.api.waits" in called
    assert {name for name in called if name.split(".")[0] == "airflow"} == set()


def test_a_look_runs_in_the_context_by_which_airflow_sorts_its_logs() -> None:
    whose = contextvars.ContextVar[str]("whose")

    class Asking(Wait):
        def look(self, client: Any, now: float) -> Pending:
            return Pending(now, whose.get())

    async def ask(name: str) -> Any:
        whose.set(name)
        return await module._look(Asking(), client=None)  # type: ignore[arg-type]

    async def both() -> list[Any]:
        return await asyncio.gather(ask("first"), ask("second"))

    first, second = asyncio.run(both())
    assert (first.summary, second.summary) == ("first", "second")
    assert first.seconds == pytest.approx(time.time(), abs=5)
