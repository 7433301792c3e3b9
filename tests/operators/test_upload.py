"""Recordings, chats and metadata arrive as they were given, and what comes back names them."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_speechsense.boundary import ProgressLog
from airflow_provider_speechsense.emulator import BadgeFault, Emulator, Fault, ManualClock
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    DeadlineExceededError,
    OperationFailedError,
    ServiceUnavailableError,
    SpeechSenseError,
    UnknownUploadOutcomeError,
)
from airflow_provider_speechsense.operators import upload as module
from airflow_provider_speechsense.operators.talks import SpeechSenseSearchOperator
from airflow_provider_speechsense.operators.upload import (
    SpeechSenseBadgeOperator,
    SpeechSenseStreamOperator,
    SpeechSenseTextOperator,
    SpeechSenseUploadOperator,
)
from airflow_provider_speechsense.storage import source
from tests.api.support import serving
from tests.helpers import BADGE, BADGE_METADATA, CALL, CHAT, DATA, METADATA, Connect, as_xcom

pytestmark = pytest.mark.usefixtures("connect")

Context = dict[str, Any]


# --- a recording


@pytest.mark.parametrize(
    ("operator", "method"),
    [(SpeechSenseUploadOperator, "Upload"), (SpeechSenseStreamOperator, "UploadAsStream")],
)
@pytest.mark.parametrize("recording", ["call.wav", "call.mp3", "call.ogg"])
def test_a_recording_arrives_byte_for_byte(
    operator: type, method: str, recording: str, emulator: Emulator, context: Context
) -> None:
    task = operator(task_id="up", audio=str(DATA / recording), metadata=METADATA)
    talk_id = as_xcom(task.execute(context))
    assert emulator.audio(talk_id) == (DATA / recording).read_bytes()
    assert dict(emulator.talk(talk_id).fields) == METADATA
    assert emulator.talk(talk_id).connection_id == "c1"
    (call,) = emulator.calls
    assert call.method == f"TalkService/{method}"


@pytest.mark.parametrize("operator", [SpeechSenseUploadOperator, SpeechSenseStreamOperator])
def test_headerless_samples_arrive_with_their_format(
    operator: type, emulator: Emulator, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "call.pcm").write_bytes(bytes(16_000))
    # As text, which is what a template makes of numbers.
    pcm = {"sample_rate_hertz": "8000", "channels": "2"}
    task = operator(task_id="up", audio=str(tmp_path / "call.pcm"), metadata=METADATA, audio_format=pcm)
    talk_id = task.execute(context)
    assert emulator.audio(talk_id) == bytes(16_000)


def test_arguments_beat_the_connections_defaults(emulator: Emulator, context: Context) -> None:
    users = [{"id": "1001", "role": "operator", "fields": {"team": "north"}}]
    task = SpeechSenseUploadOperator(
        task_id="up",
        audio=str(CALL),
        metadata=METADATA,
        connection_id="c2",
        users=users,
        upload_timeout=33,
    )
    talk = emulator.talk(task.execute(context))
    assert talk.connection_id == "c2"
    assert [(user.id, dict(user.fields)) for user in talk.users] == [("1001", {"team": "north"})]
    (call,) = emulator.calls
    assert call.deadline_seconds == pytest.approx(33, abs=3)


def test_metadata_of_many_types_is_rendered_as_the_service_documents(
    emulator: Emulator, context: Context
) -> None:
    moscow = timezone(timedelta(hours=3))
    task = SpeechSenseUploadOperator(
        task_id="up",
        audio=str(CALL),
        metadata={
            **METADATA,
            "date": datetime(2026, 3, 12, 12, 41, 7, tzinfo=moscow),
            "direction_outgoing": False,
            "score": 0.5,
            "visits": 3,
            "order": {"id": 4217},
            "ticket_id": None,
        },
    )
    fields = emulator.talk(task.execute(context)).fields
    assert fields["date"] == "2026-03-12T12:41:07+03:00"
    assert fields["direction_outgoing"] == "false"
    assert (fields["score"], fields["visits"], fields["order"]) == ("0.5", "3", '{"id":4217}')
    assert "ticket_id" not in fields


@pytest.mark.parametrize(
    "metadata", [str(DATA / "call.json"), f"file://{DATA}/call.json", json.dumps(METADATA)]
)
def test_metadata_comes_from_a_file_a_uri_or_a_rendered_template(
    metadata: str, emulator: Emulator, context: Context
) -> None:
    task = SpeechSenseUploadOperator(task_id="up", audio=str(CALL), metadata=metadata)
    assert dict(emulator.talk(task.execute(context)).fields) == METADATA


def test_a_stream_goes_in_chunks_of_the_size_asked_for(emulator: Emulator, context: Context) -> None:
    task = SpeechSenseStreamOperator(task_id="up", audio=str(CALL), metadata=METADATA, chunk_size=50_000)
    task.execute(context)
    (call,) = emulator.calls
    chunks = -(-CALL.stat().st_size // 50_000)
    assert call.messages == 2 + chunks


@pytest.mark.parametrize("operator", [SpeechSenseStreamOperator, SpeechSenseBadgeOperator])
def test_a_long_stream_logs_its_progress(
    operator: type, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, lines = itertools.count(step=4), []

    def with_a_clock_of_ours(write: Callable[[str], None]) -> ProgressLog:
        def also_here(line: str) -> None:
            lines.append(line)
            write(line)

        return ProgressLog(also_here, clock=lambda: float(next(seconds)))

    monkeypatch.setattr(module, "ProgressLog", with_a_clock_of_ours)
    # Of one channel, which both take.
    operator(task_id="up", audio=str(BADGE), metadata=METADATA, chunk_size=50_000).execute(context)
    chunks = -(-BADGE.stat().st_size // 50_000)
    assert len(lines) == chunks // 3
    assert all(line.endswith(" left") for line in lines)


# --- metadata of a talk that is there


def test_the_metadata_of_a_recording_is_replaced_and_its_audio_kept(
    emulator: Emulator, context: Context
) -> None:
    talk_id = SpeechSenseUploadOperator(task_id="up", audio=str(CALL), metadata=METADATA).execute(context)
    changed = {**METADATA, "ticket_id": "9000"}
    edited = SpeechSenseUploadOperator(task_id="edit", talk_id=talk_id, metadata=changed).execute(context)
    assert edited == talk_id
    assert len(emulator.talks) == 1
    assert emulator.talk(talk_id).fields["ticket_id"] == "9000"
    assert emulator.audio(talk_id) == CALL.read_bytes()


def test_the_metadata_of_a_chat_is_replaced_and_its_messages_kept(
    emulator: Emulator, context: Context
) -> None:
    talk_id = SpeechSenseTextOperator(task_id="up", **CHAT).execute(context)
    changed = {**CHAT["metadata"], "client_name": "Борис Петров"}
    assert (
        SpeechSenseTextOperator(task_id="edit", talk_id=talk_id, metadata=changed).execute(context) == talk_id
    )
    talk = emulator.talk(talk_id)
    assert talk.fields["client_name"] == "Борис Петров"
    assert len(talk.messages) == len(CHAT["messages"])


@pytest.mark.parametrize(
    ("operator", "content"),
    [
        (SpeechSenseUploadOperator, {"audio": str(CALL)}),
        (SpeechSenseStreamOperator, {"audio": str(CALL)}),
        (SpeechSenseTextOperator, {"messages": CHAT["messages"]}),
    ],
)
def test_content_and_talk_id_together_are_refused(
    operator: type, content: dict[str, Any], emulator: Emulator, context: Context
) -> None:
    task = operator(task_id="up", talk_id="t1", metadata=METADATA, **content)
    with pytest.raises(AirflowFailException, match="give talk_id alone to replace metadata") as caught:
        task.execute(context)
    assert isinstance(caught.value.__cause__, ConfigurationError)
    assert emulator.calls == []


# --- a chat


@pytest.mark.parametrize("form", ["list", "file", "text"])
def test_a_chat_arrives_message_for_message(
    form: str, emulator: Emulator, context: Context, tmp_path: Path
) -> None:
    messages: Any = CHAT["messages"]
    if form == "file":
        (tmp_path / "chat.json").write_text(json.dumps(messages))
        messages = str(tmp_path / "chat.json")
    elif form == "text":
        messages = json.dumps(messages)
    task = SpeechSenseTextOperator(task_id="up", messages=messages, metadata=CHAT["metadata"])
    talk = emulator.talk(as_xcom(task.execute(context)))
    assert [(m.user_id, m.text) for m in talk.messages] == [
        (m["user_id"], m["text"]) for m in CHAT["messages"]
    ]
    assert talk.messages[0].sent_at == datetime(2026, 3, 12, 8, 15, 2, 120_000, tzinfo=UTC).timestamp()


# --- a badge


def badge(**arguments: Any) -> SpeechSenseBadgeOperator:
    return SpeechSenseBadgeOperator(
        task_id="badge", audio=str(BADGE), metadata=BADGE_METADATA, **{"poll_interval": 5, **arguments}
    )


def test_a_badge_gives_its_operation(emulator: Emulator, context: Context) -> None:
    operation_id = as_xcom(badge().execute(context))
    assert context["ti"].pushed == {"operation_id": operation_id}
    assert [call.method for call in emulator.calls] == ["TalkService/UploadBadge"]


@pytest.fixture
def slept(clock: ManualClock, our_time: None, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have the operator's pauses pass on the emulator's clock."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(module, "_sleep", sleep)
    return pauses


def test_a_badge_is_waited_for_on_the_worker(
    emulator: Emulator, context: Context, slept: list[float]
) -> None:
    made = as_xcom(badge(wait_for_completion=True).execute(context))
    assert sum(slept) == 5
    assert max(slept) <= 1, "so that a task that is told to stop soon does"
    assert set(made) == {"operation_id", "badge_id", "talk_ids"}
    assert made["operation_id"] == context["ti"].pushed["operation_id"]
    assert [talk.id for talk in emulator.talks] == made["talk_ids"]
    assert len(made["talk_ids"]) == 3


def test_a_badge_is_waited_for_in_the_triggerer(
    emulator: Emulator, context: Context, clock: ManualClock
) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        badge(wait_for_completion=True, deferrable=True, wait_timeout=100).execute(context)
    arguments = deferred.value.trigger.serialize()[1]
    assert arguments["operation_id"] == context["ti"].pushed["operation_id"]
    assert arguments["wait_for_talks"] is False
    assert arguments["end_time"] == pytest.approx(time.time() + 100, abs=5)
    assert deferred.value.method_name == "execute_complete"
    event = {"status": "success", "operation_id": "o", "badge_id": "b", "talk_ids": ["t"]}
    assert badge().execute_complete(context, event) == {
        "operation_id": "o",
        "badge_id": "b",
        "talk_ids": ["t"],
    }


def test_passing_errors_are_ridden_out_while_waiting_for_a_badge(
    emulator: Emulator, context: Context, slept: list[float]
) -> None:
    emulator.script(Fault(method="OperationService/Get", code="UNAVAILABLE", count=4))
    assert len(badge(wait_for_completion=True).execute(context)["talk_ids"]) == 3
    assert sum(slept) == 5 + 5 + 5 + 8


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (BadgeFault(message="no speech found"), OperationFailedError, "no speech found"),
        (
            Fault(method="OperationService/Get", code="UNAVAILABLE", count=None),
            ServiceUnavailableError,
            "ServiceUnavailableError: SpeechSense is not available",
        ),
    ],
)
def test_a_wait_that_breaks_is_not_retried_because_the_upload_would_be_too(
    fault: Any, kind: type, text: str, emulator: Emulator, context: Context, slept: list[float]
) -> None:
    emulator.script(fault)
    with pytest.raises(AirflowFailException, match=text) as caught:
        badge(wait_for_completion=True).execute(context)
    assert type(caught.value.__cause__) is kind


def test_a_badge_that_is_not_cut_in_time_names_its_operation(context: Context, slept: list[float]) -> None:
    with pytest.raises(AirflowFailException, match="wait again with a sensor on the same ids") as caught:
        badge(wait_for_completion=True, wait_timeout=0).execute(context)
    assert isinstance(caught.value.__cause__, DeadlineExceededError)
    assert context["ti"].pushed["operation_id"] in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"poll_interval": "soon"}, "poll_interval is 'soon'"),
        ({"wait_timeout": -1}, "wait_timeout is -1"),
        ({"upload_timeout": "inf"}, "upload_timeout is 'inf'"),
    ],
)
def test_arguments_that_a_wait_cannot_take_are_found_before_the_upload(
    arguments: dict[str, Any], text: str, emulator: Emulator, context: Context
) -> None:
    with pytest.raises(AirflowFailException, match=text):
        badge(wait_for_completion=True, deferrable=True, **arguments).execute(context)
    assert emulator.calls == []


def test_durations_are_numbers_text_or_timedeltas(context: Context) -> None:
    task = badge(
        wait_for_completion=True,
        deferrable=True,
        poll_interval=timedelta(minutes=1),
        wait_timeout="100",
        upload_timeout="33.5",
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    arguments = deferred.value.trigger.serialize()[1]
    assert arguments["poll_interval"] == 60
    assert arguments["end_time"] == pytest.approx(time.time() + 100, abs=5)


def test_a_task_that_is_told_to_stop_while_it_waits_names_what_goes_on(
    emulator: Emulator, context: Context, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = badge(wait_for_completion=True)
    monkeypatch.setattr(module, "_sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowFailException, match="wait for it with SpeechSenseBadgeSensor") as caught:
        task.execute(context)
    assert f"operation {context['ti'].pushed['operation_id']} goes on" in str(caught.value)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ZeroDivisionError])
def test_whatever_ends_a_wait_after_the_upload_is_not_retried(
    stop: type, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        raise stop("out of time")

    monkeypatch.setattr(module, "_sleep", sleep)
    with pytest.raises(AirflowFailException, match=f"{stop.__name__}: out of time"):
        badge(wait_for_completion=True).execute(context)


@pytest.mark.parametrize("event", [None, {}, "done", {"status": "napping"}, {"status": "success"}])
def test_an_event_of_another_release_fails_the_task(event: Any, context: Context) -> None:
    with pytest.raises(AirflowFailException, match="which this release does not understand"):
        badge().execute_complete(context, event)


# --- what goes wrong on the way


@pytest.mark.usefixtures("instant_retries")
def test_a_passing_error_leaves_the_retry_to_airflow(
    emulator: Emulator, context: Context, connect: Connect
) -> None:
    connect(port=1)
    with pytest.raises(AirflowException) as caught:
        badge(wait_for_completion=False).execute(context)
    assert type(caught.value) is AirflowException
    assert isinstance(caught.value.__cause__, ServiceUnavailableError)


def test_an_upload_whose_answer_was_lost_is_not_repeated(emulator: Emulator, context: Context) -> None:
    emulator.script(Fault(method="TalkService/Upload", code="UNAVAILABLE", answer_lost=True))
    task = SpeechSenseUploadOperator(task_id="up", audio=str(CALL), metadata=METADATA)
    with pytest.raises(AirflowFailException, match="search for the talk by a metadata value") as caught:
        task.execute(context)
    assert isinstance(caught.value.__cause__, UnknownUploadOutcomeError)
    assert len(emulator.talks) == 1


@pytest.mark.parametrize(
    ("task", "method", "kind", "cause"),
    [
        (SpeechSenseSearchOperator(task_id="search"), "Search", AirflowException, SpeechSenseError),
        (
            SpeechSenseUploadOperator(task_id="up", audio=str(CALL), metadata=METADATA),
            "Upload",
            AirflowFailException,
            UnknownUploadOutcomeError,
        ),
    ],
)
def test_a_killed_task_breaks_off_its_call_and_may_be_retried_if_nothing_came_of_it(
    task: Any, method: str, kind: type, cause: type, context: Context, connect: Connect
) -> None:
    over = threading.Event()

    def kill_and_hang(request: Any, call: Any) -> Any:
        task.on_kill()
        task.on_kill()
        over.wait(10)
        call.abort(grpc.StatusCode.INTERNAL, "the task is not interested")

    with serving({f"TalkService/{method}": kill_and_hang}) as server:
        connect(port=int(server.address.rpartition(":")[2]))
        began = time.monotonic()
        with pytest.raises(kind) as caught:
            task.execute(context)
        over.set()
    assert time.monotonic() - began < 5
    assert type(caught.value) is kind
    assert type(caught.value.__cause__) is cause


def test_a_task_that_was_killed_makes_no_other_call(emulator: Emulator, context: Context) -> None:
    task = SpeechSenseUploadOperator(task_id="up", audio=str(CALL), metadata=METADATA)

    def killed_while_it_reads(audio: Any) -> Any:
        task.on_kill()
        return source(audio)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_recording", killed_while_it_reads)
        with pytest.raises(AirflowException, match="The task was told to stop") as caught:
            task.execute(context)
    assert type(caught.value) is AirflowException, "whoever stops a task does not forbid its retries"
    assert emulator.calls == []


def test_killing_a_task_that_has_not_begun_is_harmless() -> None:
    SpeechSenseUploadOperator(task_id="up", audio=str(CALL), metadata=METADATA).on_kill()


def test_an_upload_ends_before_execution_timeout_does_and_is_not_repeated(
    emulator: Emulator, connect: Connect, context: dict[str, Any]
) -> None:
    # Airflow would retry the task, and so make a second talk of what may be one already.
    emulator.script(Fault(method="TalkService/Upload", stall_seconds=math.inf))
    context["ti"].start_date = datetime.now(UTC)
    upload = SpeechSenseUploadOperator(
        task_id="upload",
        audio=str(CALL),
        metadata=METADATA,
        connection_id="eag0calls",
        execution_timeout=timedelta(seconds=0.4),
    )
    with pytest.raises(AirflowFailException, match="may already have had") as caught:
        upload.execute(context)
    assert isinstance(caught.value.__cause__, UnknownUploadOutcomeError)
