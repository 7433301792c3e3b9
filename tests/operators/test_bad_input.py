"""Bad input gets a clear error of the right kind, with the remedy, before anything is sent."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_speechsense import exceptions
from airflow_provider_speechsense.emulator import Access, Emulator, EmulatorSettings
from airflow_provider_speechsense.operators.talks import SpeechSenseGetOperator, SpeechSenseSearchOperator
from airflow_provider_speechsense.operators.upload import (
    SpeechSenseBadgeOperator,
    SpeechSenseStreamOperator,
    SpeechSenseTextOperator,
    SpeechSenseUploadOperator,
)
from tests.api.support import Authority, wav
from tests.helpers import CALL, CHAT, DATA, METADATA, Connect

Context = dict[str, Any]

pytestmark = pytest.mark.usefixtures("connect", "instant_retries")


def refusal(task: Any, context: Context, *, retryable: bool = False) -> exceptions.SpeechSenseError:
    """Run a task that must fail; return the cause, having checked what Airflow and the user are told."""
    with pytest.raises(AirflowException) as caught:
        task.execute(context)
    assert type(caught.value) is (AirflowException if retryable else AirflowFailException)
    cause = caught.value.__cause__
    assert isinstance(cause, exceptions.SpeechSenseError)
    assert str(caught.value) == f"{type(cause).__name__}: {cause}"
    return cause


def of_recording(operator: type, audio: Any, **arguments: Any) -> Any:
    return operator(task_id="up", audio=str(audio), **{"metadata": METADATA, **arguments})


RECORDING_OPERATORS = [SpeechSenseUploadOperator, SpeechSenseStreamOperator, SpeechSenseBadgeOperator]
every_upload = pytest.mark.parametrize("operator", RECORDING_OPERATORS, ids=lambda kind: kind.__name__)


# --- recordings


def with_header(codec: int = 1, bits: int = 16, rate: int = 8000, channels: int = 1) -> bytes:
    """Return a WAV whose header says this."""
    layout = struct.pack(
        "<HHIIHH", codec, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits
    )
    return (
        b"RIFF\xff\xff\x00\x00WAVEfmt "
        + struct.pack("<I", 16)
        + layout
        + b"data\x40\x1f\x00\x00"
        + bytes(8000)
    )


@every_upload
@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("empty.wav", b"", "is empty"),
        ("page.wav", b"<!DOCTYPE html><html><body>Sign in to go on</body></html>", "is text"),
        ("noise.wav", bytes(range(1, 200)), "is in no format that is recognised"),
        ("mu-law.wav", with_header(codec=7, bits=8), "is WAV with mu-law; PCM is taken"),
        ("deep.wav", with_header(bits=24), "is WAV with 24-bit samples; 16-bit samples are taken"),
        ("fast.wav", with_header(rate=96_000), "has a sample rate of 96000 Hz"),
        ("call.flac", b"fLaC" + bytes(100), "is FLAC, which the service does not take"),
    ],
)
def test_audio_that_the_service_does_not_take_is_refused(
    name: str, content: bytes, text: str, operator: type, emulator: Emulator, context: Context, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    cause = refusal(of_recording(operator, tmp_path / name), context)
    assert isinstance(cause, exceptions.UnsupportedAudioError)
    assert f"{tmp_path / name} {text}" in cause.message
    assert cause.hint
    assert emulator.calls == []


@every_upload
def test_a_file_that_is_not_there_is_named(
    operator: type, emulator: Emulator, context: Context, tmp_path: Path
) -> None:
    cause = refusal(of_recording(operator, tmp_path / "no.wav"), context)
    assert isinstance(cause, exceptions.SourceReadError)
    assert f"{tmp_path}/no.wav does not exist" in cause.message
    assert "the worker running the task can see it" in str(cause)
    cause = refusal(of_recording(operator, tmp_path), context)
    assert "is a folder" in cause.message
    assert emulator.calls == []


@every_upload
def test_no_file_at_all_is_refused(operator: type, emulator: Emulator, context: Context) -> None:
    cause = refusal(operator(task_id="up", audio="", metadata=METADATA), context)
    assert isinstance(cause, exceptions.ConfigurationError)
    assert "audio is empty" in str(cause)
    assert emulator.calls == []


@every_upload
def test_a_recording_that_is_not_what_it_is_declared_to_be_is_refused(
    operator: type, emulator: Emulator, context: Context
) -> None:
    cause = refusal(of_recording(operator, CALL, audio_format="MP3"), context)
    assert "is WAV, but audio_format declares MP3" in cause.message
    assert emulator.calls == []


@every_upload
def test_a_recording_over_four_hours_is_refused(
    operator: type, emulator: Emulator, context: Context, tmp_path: Path
) -> None:
    seconds = 4 * 3600 + 1
    header = with_header()[:40] + struct.pack("<I", seconds * 16_000)
    with (tmp_path / "day.wav").open("wb") as file:
        file.write(header)
        file.truncate(44 + seconds * 16_000)  # sparse: it takes no room
    cause = refusal(of_recording(operator, tmp_path / "day.wav"), context)
    assert "lasts 4:00:01; the service takes up to 4 hours" in cause.message
    assert emulator.calls == []


def test_a_recording_over_one_messages_limit_is_sent_to_the_stream_operator(
    emulator: Emulator, context: Context, tmp_path: Path
) -> None:
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(wav(1))
        file.truncate(134_217_728)
    cause = refusal(of_recording(SpeechSenseUploadOperator, tmp_path / "long.wav"), context)
    assert isinstance(cause, exceptions.MessageTooLargeError)
    assert "SpeechSenseStreamOperator" in str(cause)
    assert emulator.calls == []


def test_a_badge_in_a_format_that_only_uploads_take_is_refused(emulator: Emulator, context: Context) -> None:
    cause = refusal(of_recording(SpeechSenseBadgeOperator, DATA / "call.ogg"), context)
    assert isinstance(cause, exceptions.UnsupportedAudioError)
    assert "UploadBadge takes only WAV and MP3" in cause.message
    assert emulator.calls == []


@pytest.mark.parametrize("chunk_size", [0, -1, 134_217_728])
def test_a_chunk_that_fits_into_no_message_is_refused(
    chunk_size: int, emulator: Emulator, context: Context
) -> None:
    cause = refusal(of_recording(SpeechSenseStreamOperator, CALL, chunk_size=chunk_size), context)
    assert isinstance(cause, exceptions.ConfigurationError)
    assert f"chunk_size is {chunk_size}" in cause.message
    assert emulator.calls == []


# --- metadata


def test_all_faults_of_the_metadata_are_told_at_once(emulator: Emulator, context: Context) -> None:
    metadata = {
        **METADATA,
        "date": "yesterday",
        "client_name": "Ж" * 600,
        "score": float("nan"),
        "blob": b"bytes",
        "": "no name",
    }
    for task in (
        *(of_recording(operator, CALL, metadata=metadata) for operator in RECORDING_OPERATORS),
        SpeechSenseTextOperator(task_id="up", messages=CHAT["messages"], metadata=metadata),
        SpeechSenseUploadOperator(task_id="edit", talk_id="t1", metadata=metadata),
    ):
        cause = refusal(task, context)
        assert isinstance(cause, exceptions.InvalidMetadataError)
        assert len(cause.violations) == 5
        text = str(cause)
        assert "5 faults, nothing was sent" in text
        for fault in ("date: ", "client_name: 1200 bytes of UTF-8", "score: ", "blob: a bytes", "the key ''"):
            assert fault in text
    assert emulator.calls == []


def test_too_many_keys_are_refused(emulator: Emulator, context: Context) -> None:
    metadata = {**METADATA, **{f"key{number}": "x" for number in range(200)}}
    cause = refusal(of_recording(SpeechSenseUploadOperator, CALL, metadata=metadata), context)
    assert f"{len(metadata)} keys, the service takes 200" in str(cause)
    assert emulator.calls == []


@pytest.mark.parametrize("strictly", ["operator", "connection"])
def test_what_only_templates_ask_for_is_an_error_where_the_user_wants_it(
    strictly: str, emulator: Emulator, context: Context, connect: Connect
) -> None:
    metadata = {"operator_id": "1", "date": "2026-03-12T09:41:07"}
    of_recording(SpeechSenseUploadOperator, CALL, metadata=metadata).execute(context)
    assert len(emulator.talks) == 1
    if strictly == "connection":
        connect(extra={"strict_metadata": "true"})
    strict = True if strictly == "operator" else None
    task = of_recording(SpeechSenseUploadOperator, CALL, metadata=metadata, strict_metadata=strict)
    cause = refusal(task, context)
    assert isinstance(cause, exceptions.InvalidMetadataError)
    assert "missing operator_name, client_name, client_id, language, direction_outgoing" in str(cause)
    assert "names no time zone" in str(cause)
    assert "Add Z for UTC" in str(cause)
    assert len(emulator.talks) == 1


def test_the_operators_word_on_strictness_is_the_last(
    emulator: Emulator, context: Context, connect: Connect
) -> None:
    connect(extra={"strict_metadata": True})
    metadata = {"operator_id": "1", "date": "2026-03-12T09:41:07"}
    of_recording(SpeechSenseUploadOperator, CALL, metadata=metadata, strict_metadata=False).execute(context)
    assert len(emulator.talks) == 1


def test_no_connection_to_upload_to_is_refused(
    emulator: Emulator, context: Context, connect: Connect
) -> None:
    connect(extra={"connection_id": None})
    cause = refusal(of_recording(SpeechSenseUploadOperator, CALL), context)
    assert isinstance(cause, exceptions.InvalidMetadataError)
    assert "no connection_id: give it to the operator, or as the default of the Airflow connection" in str(
        cause
    )
    assert emulator.calls == []


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ("no.json", "no.json does not exist"),
        ("{'a': 1}", "tojson filter of the template"),
        ('["a list"]', "not a mapping of keys to values"),
        ("broken.json", "broken.json is not JSON"),
    ],
)
def test_metadata_that_is_no_metadata_is_refused(
    metadata: str, text: str, emulator: Emulator, context: Context, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{")
    assert text in str(refusal(of_recording(SpeechSenseUploadOperator, CALL, metadata=metadata), context))
    assert emulator.calls == []


# --- chats


def test_all_faults_of_a_chat_are_told_at_once(emulator: Emulator, context: Context) -> None:
    messages = [
        CHAT["messages"][0],
        {**CHAT["messages"][1], "user_id": "4711"},
        {**CHAT["messages"][2], "timestamp": "a while ago"},
        {**CHAT["messages"][3], "timestamp": "2026-03-12T08:15:22"},
        {**CHAT["messages"][4], "text": None},
    ]
    task = SpeechSenseTextOperator(task_id="up", messages=messages, metadata=CHAT["metadata"])
    cause = refusal(task, context)
    assert isinstance(cause, exceptions.InvalidChatError)
    assert len(cause.violations) == 4
    text = str(cause)
    for fault in (
        "message 2: the sender '4711' is none of the metadata's ids",
        "message 3: timestamp",
        "message 4: timestamp 2026-03-12T08:15:22 names no time zone",
        "message 5: text is None",
    ):
        assert fault in text
    assert emulator.calls == []


@pytest.mark.parametrize("messages", [None, [], "[]"])
def test_a_chat_without_messages_is_refused(messages: Any, emulator: Emulator, context: Context) -> None:
    task = SpeechSenseTextOperator(task_id="up", messages=messages, metadata=CHAT["metadata"])
    assert "a chat needs at least one" in str(refusal(task, context))
    assert emulator.calls == []


# --- questions


@pytest.mark.parametrize(
    ("task", "texts"),
    [
        (
            SpeechSenseGetOperator(task_id="get", talk_ids="t1", results_mask=["transcripts", "points"]),
            ["transcripts", "did you mean transcription?"],
        ),
        (
            SpeechSenseSearchOperator(
                task_id="search",
                filters=[
                    {"key": "talk.statistics.word.count", "int_range": {"from_value": 1}},
                    {"key": "userMeta.date", "date_rang": {}},
                    {"key": "userMeta.date"},
                ],
            ),
            ["3 faults", "talk.statistics.words.count", "date_range", "has no condition"],
        ),
        (SpeechSenseSearchOperator(task_id="search", query={"inverse": True}), ["query has no text"]),
        (SpeechSenseSearchOperator(task_id="search", sort={"field": "userMeta.date"}), ["not a list"]),
        (SpeechSenseGetOperator(task_id="get", talk_ids=[]), ["talk_ids is empty: give at least one"]),
    ],
)
def test_a_question_that_the_service_does_not_know_names_what_it_knows(
    task: Any, texts: list[str], emulator: Emulator, context: Context
) -> None:
    cause = refusal(task, context)
    assert isinstance(cause, exceptions.InvalidRequestError)
    assert "nothing was sent" in cause.message
    for text in texts:
        assert text in str(cause)
    assert emulator.calls == []


def test_editing_a_talk_that_does_not_exist_makes_none(emulator: Emulator, context: Context) -> None:
    task = SpeechSenseUploadOperator(task_id="edit", talk_id="aud00nowhere", metadata=METADATA)
    assert isinstance(refusal(task, context), exceptions.NotFoundError)
    assert emulator.talks == []


# --- the connection


def search() -> SpeechSenseSearchOperator:
    return SpeechSenseSearchOperator(task_id="search")


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"password": "wrong"}, exceptions.AuthenticationError, "the key is neither deleted nor expired"),
        ({"password": "emu\nlator-key"}, exceptions.ConfigurationError, "has a line break"),
        ({"password": None}, exceptions.ConfigurationError, "put the API key into the connection's password"),
        ({"host": "http://127.0.0.1"}, exceptions.ConfigurationError, "without a scheme or path"),
        ({"extra": {"tls": True}}, exceptions.ConfigurationError, "set tls to false"),
        ({"host": "sense.corp.example"}, exceptions.ConfigurationError, "nothing was sent"),
    ],
)
def test_a_wrong_connection_says_what_to_change(
    changes: dict[str, Any], kind: type, text: str, emulator: Emulator, context: Context, connect: Connect
) -> None:
    connect(**changes)
    cause = refusal(search(), context)
    assert type(cause) is kind
    assert text in str(cause)
    assert {call.code for call in emulator.calls} <= {"UNAUTHENTICATED"}


def test_a_key_without_the_role_says_which_is_missing(context: Context, connect: Connect) -> None:
    with Emulator(EmulatorSettings(api_keys={"read-only": Access.READ})) as strict:
        connect(port=strict.port, password="read-only")
        cause = refusal(of_recording(SpeechSenseUploadOperator, CALL), context)
        assert isinstance(cause, exceptions.PermissionDeniedError)
        assert "speech-sense.data.editor" in str(cause)
        assert strict.talks == []


def test_a_host_that_does_not_answer_may_be_retried(context: Context, connect: Connect) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        connect(port=nobody.getsockname()[1])
        for task in (search(), of_recording(SpeechSenseUploadOperator, CALL)):
            cause = refusal(task, context, retryable=True)
            assert isinstance(cause, exceptions.ServiceUnavailableError)
            assert "check host, port and tls of the connection" in str(cause)


def test_a_host_that_accepts_and_says_nothing_runs_into_the_deadline(
    context: Context, connect: Connect
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connect(port=silent.getsockname()[1], extra={"rpc_timeout": 0.05})
        cause = refusal(search(), context, retryable=True)
    assert isinstance(cause, exceptions.DeadlineExceededError | exceptions.ServiceUnavailableError)
    assert "check host" in str(cause)


def test_a_certificate_of_an_unknown_authority_is_refused(
    context: Context, connect: Connect, tmp_path: Path
) -> None:
    authority, stranger = Authority(), Authority()
    cert, key = authority.issue("127.0.0.1").files(tmp_path)
    with Emulator(EmulatorSettings(tls_cert=cert, tls_key=key)) as emulator:
        connect(port=emulator.port, extra={"tls": True, "ca_cert": stranger.cert.decode()})
        cause = refusal(search(), context)
        assert isinstance(cause, exceptions.ConfigurationError)
        assert "give the certificate of your CA as ca_cert" in str(cause)
        connect(port=emulator.port, extra={"tls": True, "ca_cert": authority.cert.decode()})
        assert search().execute(context) == []


def test_a_missing_airflow_connection_is_named(context: Context) -> None:
    task = SpeechSenseSearchOperator(task_id="search", speechsense_conn_id="speechsense_nowhere")
    with pytest.raises(AirflowException, match="speechsense_nowhere"):
        task.execute(context)
