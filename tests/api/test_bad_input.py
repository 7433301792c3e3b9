"""Bad input gets an error that says what is wrong and what to do, if possible before anything is sent."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_speechsense.api import ApiKey, NoCredentials, SpeechSenseClient
from airflow_provider_speechsense.emulator import Access, Connection, ConnectionType, Emulator, Fault
from airflow_provider_speechsense.exceptions import (
    AuthenticationError,
    ConfigurationError,
    InvalidChatError,
    InvalidMetadataError,
    InvalidRequestError,
    MessageTooLargeError,
    NotFoundError,
    PermissionDeniedError,
    SourceReadError,
    SpeechSenseError,
    UnsupportedAudioError,
)
from tests.api.conftest import Connect, StartEmulator, StartServer
from tests.api.support import CHAT, CHAT_METADATA, METADATA, WAV

SAMPLES = Path(__file__).parents[2] / "example_dags" / "data"

HOURS_OF_PCM = {"sample_rate_hertz": 8000, "channels": 1}


class Huge:
    """A WAV header, and then more than fits."""

    name = "s3://calls/huge.wav"
    size = 134_217_728

    def open(self) -> Any:
        return io.BytesIO(WAV)


def wav_header(codec: int = 1, rate: int = 8000, bits: int = 16) -> bytes:
    fmt = struct.pack("<HHIIHH", codec, 1, rate, rate * bits // 8, bits // 8, bits)
    return b"RIFF\x24\x0a\x00\x00WAVEfmt \x10\x00\x00\x00" + fmt + b"data\x00\x0a\x00\x00" + bytes(2560)


BAD_RECORDINGS: dict[str, tuple[Any, dict[str, Any], type[SpeechSenseError], str, str]] = {
    "a missing file": ("/no/such.wav", {}, SourceReadError, "/no/such.wav does not exist", "check the path"),
    "an empty file": (b"", {}, UnsupportedAudioError, "is empty", "send WAV"),
    "no audio": (b"PK\x03\x04" + bytes(99), {}, UnsupportedAudioError, "ZIP or GZIP", "send WAV"),
    "noise": (b"\x01\x80garbage" * 99, {}, UnsupportedAudioError, "no format", "audio_format="),
    "another container": (WAV, {"audio_format": "MP3"}, UnsupportedAudioError, "is WAV, but", "send WAV"),
    "another codec": (wav_header(codec=7), {}, UnsupportedAudioError, "mu-law", "send WAV with 16-bit PCM"),
    "another depth": (wav_header(bits=8), {}, UnsupportedAudioError, "8-bit", "send WAV with 16-bit PCM"),
    "another rate": (wav_header(rate=4000), {}, UnsupportedAudioError, "4000 Hz", "8-48 kHz"),
    "an unknown format": (
        WAV,
        {"audio_format": "FLAC"},
        ConfigurationError,
        "'FLAC' is unknown",
        "allowed are",
    ),
}


@pytest.mark.parametrize("upload", ["upload", "upload_stream", "upload_badge"])
@pytest.mark.parametrize("name", BAD_RECORDINGS)
def test_a_bad_recording_is_refused_before_anything_is_sent(
    emulator: Emulator, client: SpeechSenseClient, upload: str, name: str
) -> None:
    audio, options, kind, cause, remedy = BAD_RECORDINGS[name]
    with pytest.raises(kind) as caught:
        getattr(client, upload)(audio, METADATA, **options)
    assert type(caught.value) is kind
    assert cause in str(caught.value)
    assert remedy in str(caught.value)
    assert not caught.value.retryable
    assert emulator.calls == []


def test_audio_of_more_than_four_hours_is_refused(
    emulator: Emulator, client: SpeechSenseClient, tmp_path: Path
) -> None:
    recording = tmp_path / "long.pcm"
    with recording.open("wb") as file:
        file.truncate((4 * 3600 + 1) * 16_000)
    with pytest.raises(
        UnsupportedAudioError, match=r"lasts 4:00:01; the service takes up to 4 hours.*in parts"
    ):
        client.upload_stream(recording, METADATA, audio_format=HOURS_OF_PCM)
    assert emulator.calls == []


def test_a_recording_too_large_for_one_message_is_refused_by_its_size_and_named_the_stream(
    emulator: Emulator, client: SpeechSenseClient
) -> None:
    with pytest.raises(
        MessageTooLargeError, match=r"huge.wav is 134,217,728 bytes.*SpeechSenseStreamOperator"
    ):
        client.upload(Huge(), METADATA)
    assert emulator.calls == []


def test_a_chat_too_large_for_one_message_is_refused(emulator: Emulator, client: SpeechSenseClient) -> None:
    many = [{**CHAT[0], "text": "x" * 10_000_000}] * 14
    with pytest.raises(MessageTooLargeError, match=r"The chat is 140,\d+,\d+ bytes.*split the chat"):
        client.upload_text(many, CHAT_METADATA)
    assert emulator.calls == []


@pytest.mark.parametrize("audio", [SAMPLES / "call.ogg", None], ids=["OggOpus", "PCM"])
def test_a_badge_takes_only_wav_and_mp3(emulator: Emulator, client: SpeechSenseClient, audio: Any) -> None:
    options = {} if audio else {"audio_format": HOURS_OF_PCM}
    with pytest.raises(UnsupportedAudioError, match=r"UploadBadge takes only WAV and MP3.*convert"):
        client.upload_badge(audio or bytes(3200), METADATA, **options)
    assert emulator.calls == []


@pytest.mark.parametrize("size", [0, -1, 134_217_728])
def test_a_chunk_that_is_no_message_is_refused(
    emulator: Emulator, client: SpeechSenseClient, size: int
) -> None:
    with pytest.raises(ConfigurationError, match=f"chunk_size is {size}.*bytes from 1"):
        client.upload_stream(WAV, METADATA, chunk_size=size)
    assert emulator.calls == []


BAD_METADATA = {**METADATA, "date": "yesterday", "note": "я" * 513, "score": float("nan")}
UPLOADS: dict[str, Callable[[SpeechSenseClient, Any], Any]] = {
    "upload": lambda client, metadata: client.upload(WAV, metadata),
    "upload_stream": lambda client, metadata: client.upload_stream(WAV, metadata),
    "upload_badge": lambda client, metadata: client.upload_badge(WAV, metadata),
    "upload_text": lambda client, metadata: client.upload_text(CHAT, metadata),
    "edit_metadata": lambda client, metadata: client.edit_metadata("t1", metadata),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_bad_metadata_is_refused_with_all_its_faults(
    emulator: Emulator, client: SpeechSenseClient, name: str
) -> None:
    with pytest.raises(InvalidMetadataError) as caught:
        UPLOADS[name](client, BAD_METADATA)
    assert [violation.partition(":")[0] for violation in caught.value.violations] == ["note", "score", "date"]
    assert emulator.calls == []


def test_a_connection_id_is_needed(emulator: Emulator, connect: Connect) -> None:
    with pytest.raises(InvalidMetadataError, match="no connection_id: give it to the operator"):
        connect(emulator, scope={}).upload(WAV, METADATA)
    assert emulator.calls == []


def test_a_bad_chat_is_refused_with_all_its_faults(emulator: Emulator, client: SpeechSenseClient) -> None:
    messages = [{**CHAT[0], "user_id": "999"}, {**CHAT[1], "timestamp": "noon"}]
    with pytest.raises(InvalidChatError) as caught:
        client.upload_text(messages, CHAT_METADATA)
    assert len(caught.value.violations) == 2
    assert emulator.calls == []


BAD_REQUESTS: dict[str, tuple[Callable[[SpeechSenseClient], Any], str]] = {
    "an unknown mask path": (
        lambda c: c.get("t1", results_mask="transcripts"),
        "did you mean transcription?",
    ),
    "an unknown filter key": (
        lambda c: c.search(filters=[{"key": "date", "boolean_match": {"value": True}}]),
        "filters[0].key 'date' is unknown",
    ),
    "an unknown name in a filter": (
        lambda c: c.search(filters=[{"key": "userMeta.date", "date_rnage": {}}]),
        "filters[0].date_rnage is unknown: did you mean date_range?",
    ),
    "no ids to get": (lambda c: c.get([]), "talk_ids is empty"),
    "no ids to wait for": (lambda c: c.statuses([]), "talk_ids is empty"),
    "no id to edit": (lambda c: c.edit_metadata("", METADATA), "talk_ids[0] is ''"),
    "no operation": (lambda c: c.get_operation(""), "operation_id is ''"),
    "a limit of none": (lambda c: c.search(limit=0), "limit is 0"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_at_the_call_before_anything_is_read(
    emulator: Emulator, client: SpeechSenseClient, name: str
) -> None:
    call, fault = BAD_REQUESTS[name]
    with pytest.raises(InvalidRequestError) as caught:
        call(client)
    assert fault in str(caught.value)
    assert "nothing was sent" in str(caught.value)
    assert emulator.calls == []


def test_ids_that_do_not_exist_are_named(client: SpeechSenseClient) -> None:
    with pytest.raises(NotFoundError, match=r"does not know the talks aud-a, aud-b.*check the ids") as caught:
        list(client.get(["aud-a", "aud-b"]))
    assert caught.value.ids == ("aud-a", "aud-b")
    with pytest.raises(NotFoundError):
        client.get_operation("eag-unknown")
    with pytest.raises(NotFoundError):
        client.edit_metadata("aud-a", METADATA)


def test_a_wrong_key_is_told(emulator: Emulator, connect: Connect) -> None:
    with pytest.raises(
        AuthenticationError, match=r"does not accept the credentials.*neither deleted nor expired"
    ):
        connect(emulator, credentials=ApiKey("wrong")).count()
    with pytest.raises(AuthenticationError):
        connect(emulator, credentials=NoCredentials()).count()


def test_a_missing_role_is_told_with_its_name(start_emulator: StartEmulator, connect: Connect) -> None:
    emulator = start_emulator(api_keys={"reader": Access.READ})
    client = connect(emulator, credentials=ApiKey("reader"))
    assert client.count() == 0
    with pytest.raises(PermissionDeniedError, match=r"speech-sense\.data\.editor to upload"):
        client.upload(WAV, METADATA)
    assert emulator.talks == []


def test_what_a_connection_refuses_is_told_in_the_services_words(
    start_emulator: StartEmulator, connect: Connect
) -> None:
    emulator = start_emulator(connections={"c1": Connection(ConnectionType.TWO_CHANNEL)})
    with pytest.raises(InvalidRequestError, match=r"SpeechSense refused the request: .*operator_name"):
        connect(emulator).upload(WAV, {"date": "2025-04-24T14:34:19Z"})


def test_a_server_that_lacks_a_method_is_told_with_what_to_check(
    start_server: StartServer, connect: Connect
) -> None:
    with pytest.raises(ConfigurationError, match=r"does not have this method.*an older SpeechSense Hybrid"):
        connect(start_server({})).upload_badge(WAV, METADATA)


def test_one_talk_that_is_too_large_gets_the_hint_to_ask_for_less_of_it(
    emulator: Emulator, client: SpeechSenseClient
) -> None:
    emulator.script(
        Fault(method="TalkService/Get", code="RESOURCE_EXHAUSTED", details="exceeds maximum size", count=None)
    )
    with pytest.raises(MessageTooLargeError, match="results mask"):
        list(client.get("t1"))
