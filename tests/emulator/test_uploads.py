"""Uploads are checked the way the service documents it, and what is wrong is named."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_speechsense.emulator import EmulatorSettings
from tests.emulator.support import (
    MONO,
    SAMPLES,
    STEREO,
    Bench,
    Serve,
    chat_request,
    edit,
    event,
    header_of,
    interleaved,
    messages,
    metadata_of,
    raw_header,
    stream,
    tone,
    upload_request,
)

METADATA = event(metadata=metadata_of())
HEADER = event(audio={"audio_metadata": header_of()})
CHUNK = event(audio={"chunk": {"data": MONO}})


# The order of a stream


@pytest.mark.parametrize("method", ["TalkService/UploadAsStream", "TalkService/UploadBadge"])
@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ([HEADER, CHUNK], "first message of the stream must be metadata"),
        ([METADATA, METADATA], "metadata may come only once"),
        ([METADATA, CHUNK], "second message of the stream must be audio.audio_metadata"),
        ([METADATA, HEADER, HEADER], "only audio.chunk"),
        ([METADATA, HEADER, CHUNK, METADATA], "metadata may come only once"),
        ([METADATA, event(audio={})], "second message of the stream must be"),
        ([], "ended before metadata"),
        ([METADATA], "ended before audio.audio_metadata"),
        ([METADATA, HEADER], "ended before audio.chunk"),
        ([METADATA, HEADER, event(audio={"chunk": {}})], "ended before audio.chunk"),
    ],
)
def test_a_stream_out_of_order_is_refused(bench: Bench, method: str, sent: list[Any], text: str) -> None:
    code, details = bench.refused(method, iter(sent))
    assert code == "INVALID_ARGUMENT"
    assert text in details
    assert bench.emulator.talks == []


def test_a_stream_in_order_is_kept_byte_for_byte(bench: Bench) -> None:
    talk_id = bench.call("TalkService/UploadAsStream", stream(STEREO, chunk=777)).talk_id
    assert bench.emulator.audio(talk_id) == STEREO


def test_a_stream_may_have_a_limit(serve: Serve) -> None:
    code, details = serve(max_stream_bytes=1000).refused("TalkService/UploadAsStream", stream(MONO))
    assert (code, details) == ("RESOURCE_EXHAUSTED", "message exceeds maximum size 1000")


# Audio


@pytest.mark.parametrize(
    ("name", "container"), [("call.mp3", "MP3"), ("call.ogg", "OGG_OPUS"), ("call.wav", "WAV")]
)
def test_every_container_is_accepted(bench: Bench, name: str, container: str) -> None:
    audio = (SAMPLES / name).read_bytes()
    talk_id = bench.call("TalkService/Upload", upload_request(audio, header_of(container))).talk_id
    facts = bench.emulator.talk(talk_id).recording.facts
    assert facts.channels == 2
    assert facts.duration_seconds == pytest.approx(25.5, abs=0.2)


def test_headerless_pcm_is_taken_as_declared(bench: Bench) -> None:
    audio = interleaved([tone((500, 5000), rate=16_000)] * 2)
    talk_id = bench.call("TalkService/Upload", upload_request(audio, raw_header(16_000, 2))).talk_id
    assert bench.emulator.talk(talk_id).recording.facts.duration_seconds == 0.5


@pytest.mark.parametrize(
    ("audio", "header", "text"),
    [
        (MONO, header_of("MP3"), "is WAV"),
        (b"not audio at all", header_of(), "the audio"),
        (MONO, messages.AudioMetadata(), "must have raw_audio or container_audio"),
        (MONO, messages.AudioMetadata(container_audio={}), "container_audio_type is not specified"),
        (MONO, messages.AudioMetadata(container_audio={"container_audio_type": 77}), "not specified"),
        (MONO, messages.AudioMetadata(raw_audio={"sample_rate_hertz": 8000}), "audio_encoding must be"),
        (interleaved([tone((500, 5000))]), raw_header(7999, 1), "7999"),
    ],
)
def test_audio_that_is_not_what_it_is_said_to_be_is_refused(
    bench: Bench, audio: bytes, header: Any, text: str
) -> None:
    for method, request in (
        ("TalkService/Upload", upload_request(audio, header)),
        ("TalkService/UploadAsStream", stream(audio, header)),
    ):
        code, details = bench.refused(method, request)
        assert code == "INVALID_ARGUMENT"
        assert text in details
    assert bench.emulator.talks == []


def test_a_recording_over_the_longest_is_refused(serve: Serve) -> None:
    code, details = serve(max_audio_seconds=0.4).refused("TalkService/Upload", upload_request(MONO))
    assert code == "INVALID_ARGUMENT"
    assert "limit" in details


def test_an_upload_needs_bytes(bench: Bench) -> None:
    code, details = bench.refused("TalkService/Upload", upload_request(b""))
    assert (code, details) == ("INVALID_ARGUMENT", "audio.audio_data.data is required")


@pytest.mark.parametrize("header", [header_of("OGG_OPUS"), raw_header(8000, 1)])
def test_a_badge_is_wav_or_mp3(bench: Bench, header: Any) -> None:
    code, details = bench.refused("TalkService/UploadBadge", stream(MONO, header))
    assert (code, details) == ("INVALID_ARGUMENT", "UploadBadge takes only WAV and MP3")


# Metadata


def test_metadata_needs_a_connection(bench: Bench) -> None:
    code, details = bench.refused("TalkService/Upload", upload_request(MONO, connection_id=""))
    assert (code, details) == ("INVALID_ARGUMENT", "metadata.connection_id is required")


def test_a_value_may_have_1024_bytes_but_not_one_more(bench: Bench) -> None:
    bench.upload(comment="я" * 512)
    code, details = bench.refused("TalkService/Upload", upload_request(MONO, comment="я" * 512 + "!"))
    assert code == "INVALID_ARGUMENT"
    assert "metadata.comment has 1025 bytes" in details


def test_values_of_participants_have_the_same_limit(bench: Bench) -> None:
    users = [messages.UserMetadata(id="1", role="USER_ROLE_CLIENT", fields={"mood": "x" * 1025})]
    assert "metadata.mood" in bench.refused("TalkService/Upload", upload_request(MONO, users=users))[1]


def test_a_talk_may_have_200_keys_but_not_one_more(bench: Bench) -> None:
    bench.upload(**{f"key{i}": "" for i in range(200)})
    request = upload_request(MONO, **{f"key{i}": "" for i in range(201)})
    assert "201 keys" in bench.refused("TalkService/Upload", request)[1]


def test_a_key_has_a_name(bench: Bench) -> None:
    assert "empty key" in bench.refused("TalkService/Upload", upload_request(MONO, **{"": "x"}))[1]


# Chats


def test_a_chat_comes_back_with_the_channels_of_its_senders(bench: Bench) -> None:
    talk_id = bench.upload_chat((10, "cl", "hi"), (12.5, "bot", "hello"), (14, "op", "good day"))
    phrases = bench.analysed(talk_id).transcription.phrases
    assert [(each.channel_number, each.start_time_ms, each.phrase.text) for each in phrases] == [
        (1, 0, "hi"),
        (2, 2500, "hello"),
        (0, 4000, "good day"),
    ]


def test_a_chat_needs_messages(bench: Bench) -> None:
    request = chat_request()
    request.text_content.SetInParent()
    assert bench.refused("TalkService/UploadText", request) == (
        "INVALID_ARGUMENT",
        "text_content.messages is empty",
    )


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("user_id", "user_id '' is none of"),
        ("timestamp", "timestamp is required"),
        ("text", "has no payload"),
    ],
)
def test_a_chat_message_needs_everything(bench: Bench, field: str, text: str) -> None:
    request = chat_request((1, "cl", "hello"), (2, "op", "good day"))
    request.text_content.messages[1].ClearField(field)
    code, details = bench.refused("TalkService/UploadText", request)
    assert code == "INVALID_ARGUMENT"
    assert details.startswith("text_content.messages[1]")
    assert text in details


def test_participants_may_send_only_where_the_switch_says_so(serve: Serve) -> None:
    users = [messages.UserMetadata(id="77", role="USER_ROLE_CLIENT")]
    request = chat_request((1, "77", "hello"), users=users)
    assert "user_id '77'" in serve().refused("TalkService/UploadText", request)[1]
    bench = serve(users_may_send=True)
    talk_id = bench.call("TalkService/UploadText", request).talk_id
    assert bench.emulator.talk(talk_id).messages[0].channel == 1


# Editing metadata


def test_an_edit_replaces_all_fields(bench: Bench) -> None:
    talk_id = bench.upload(score="1", comment="first")
    bench.clock.advance(100)
    assert bench.call("TalkService/Upload", edit(talk_id, score="2")).talk_id == talk_id
    talk = bench.get(talk_id)[0]
    assert {field.name: field.value for field in talk.talk_fields} == {"score": "2"}
    assert talk.modified_at.ToSeconds() - talk.created_at.ToSeconds() == 100
    assert talk.modified_by == talk.created_by
    assert bench.emulator.audio(talk_id)


def test_an_edit_of_a_chat_keeps_its_messages(bench: Bench) -> None:
    talk_id = bench.upload_chat((1, "cl", "hello"))
    bench.call("TalkService/UploadText", edit(talk_id, "UploadText", score="5"))
    talk = bench.get(talk_id)[0]
    assert [field.name for field in talk.talk_fields] == ["score"]
    assert len(talk.transcription.phrases) == 1


def test_an_edit_of_nothing_is_not_found(bench: Bench) -> None:
    assert bench.refused("TalkService/Upload", edit("aud9")) == ("NOT_FOUND", "Talk aud9 not found")


def test_an_edit_keeps_to_the_kind_and_the_connection_of_its_talk(bench: Bench) -> None:
    talk_id = bench.upload()
    assert "is not text" in bench.refused("TalkService/UploadText", edit(talk_id, "UploadText"))[1]
    assert (
        "belongs to connection c1"
        in bench.refused("TalkService/Upload", edit(talk_id, connection_id="c2"))[1]
    )


def test_a_first_upload_whose_client_chose_an_id_gets_another(serve: Serve) -> None:
    request = upload_request(MONO, talk_id="mine")
    assert serve().call("TalkService/Upload", request).talk_id != "mine"
    strict = serve(client_talk_id="refused")
    assert strict.refused("TalkService/Upload", request)[1] == "talk_id must be empty for a new talk"


def test_ids_look_like_the_services_and_are_never_given_twice(bench: Bench) -> None:
    ids = {bench.upload() for _ in range(20)}
    assert len(ids) == 20
    assert all(talk_id.startswith("aud") and len(talk_id) == 20 for talk_id in ids)


def test_the_defaults_are_the_services_limits() -> None:
    settings = EmulatorSettings()
    assert (settings.max_message_bytes, settings.max_audio_seconds) == (128 * 1024**2, 4 * 3600)
    assert (settings.max_value_bytes, settings.max_keys, settings.max_get_ids) == (1024, 200, 100)
    assert tuple(settings.get_quota) == ((1, 20), (60, 200), (3600, 2000), (86400, 20000))
