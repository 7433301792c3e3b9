"""Streams and their sources, over real gRPC."""

from __future__ import annotations

import contextlib
import signal
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import pytest

from airflow_provider_speechsense.api import SpeechSenseClient, protos
from airflow_provider_speechsense.api.calls import _Feed
from airflow_provider_speechsense.emulator import Emulator
from airflow_provider_speechsense.exceptions import SourceReadError
from tests.api.conftest import Connect, StartServer
from tests.api.support import METADATA, WAV, BrokenSource, wav

MIB = 1_048_576
PCM = {"sample_rate_hertz": 8000, "channels": 1}
LONG = wav(seconds=30)


@pytest.mark.parametrize("read_before", [0, 200_000], ids=["at once", "on the way"])
def test_an_error_in_the_source_is_that_error_and_makes_no_talk(
    emulator: Emulator, client: SpeechSenseClient, pauses: list[float], read_before: int
) -> None:
    failure = TimeoutError("storage is slow")
    source = BrokenSource(LONG[:read_before], len(LONG), failure)
    with pytest.raises(SourceReadError, match=r"s3://calls/1\.wav cannot be read: TimeoutError") as caught:
        client.upload_stream(source, METADATA, chunk_size=10_000)
    assert caught.value.__cause__ is failure
    assert pauses == []
    assert emulator.talks == []
    assert "OK" not in {call.code for call in emulator.calls}


@pytest.mark.parametrize("really", [LONG[:-1], LONG + b"x"], ids=["shrinks", "grows"])
def test_a_source_that_changes_while_it_is_sent_makes_no_talk(
    emulator: Emulator, client: SpeechSenseClient, really: bytes
) -> None:
    for upload in (client.upload, client.upload_stream, client.upload_badge):
        with pytest.raises(SourceReadError, match="changed while it was read"):
            upload(BrokenSource(really, len(LONG)), METADATA)
    assert emulator.talks == []


def test_an_error_in_the_progress_callback_is_not_taken_for_grpcs(client: SpeechSenseClient) -> None:
    def broken(sent: int, total: int) -> None:
        raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        client.upload_stream(LONG, METADATA, progress=broken)


def test_progress_counts_bytes_up_to_all_of_them(client: SpeechSenseClient) -> None:
    seen: list[tuple[int, int]] = []
    client.upload_stream(LONG, METADATA, chunk_size=100_000, progress=lambda *now: seen.append(now))
    assert seen == [(min(100_000 * n, len(LONG)), len(LONG)) for n in range(1, 6)]


def test_a_stream_comes_in_the_order_and_the_pieces_that_the_service_wants(
    start_server: StartServer, connect: Connect
) -> None:
    received = []

    def receive(stream: Any, context: Any) -> Any:
        received.extend(stream)
        return protos.speechsense.UploadTalkResponse(talk_id="t1")

    server = start_server({"TalkService/UploadAsStream": receive})
    assert connect(server).upload_stream(LONG, METADATA, chunk_size=100_000) == "t1"
    metadata, header, *chunks = received
    assert metadata.metadata.connection_id == "c1"
    assert metadata.metadata.fields["direction_outgoing"] == "true"
    assert header.audio.audio_metadata.container_audio.container_audio_type == 1
    assert [len(chunk.audio.chunk.data) for chunk in chunks] == [100_000] * 4 + [len(LONG) - 400_000]
    assert b"".join(chunk.audio.chunk.data for chunk in chunks) == LONG


def test_streaming_takes_no_more_memory_for_a_larger_recording(
    start_server: StartServer, connect: Connect, tmp_path: Path
) -> None:
    recording = tmp_path / "long.pcm"
    with recording.open("wb") as file:
        file.truncate(64 * MIB)
    arrived = 0

    def receive(stream: Any, context: Any) -> Any:
        nonlocal arrived
        for message in stream:
            arrived += len(message.audio.chunk.data)
        return protos.speechsense.UploadTalkResponse(talk_id="t1")

    client = connect(start_server({"TalkService/UploadAsStream": receive}))
    client.upload_stream(WAV, METADATA)
    arrived = 0
    tracemalloc.start()
    try:
        client.upload_stream(recording, METADATA, audio_format=PCM)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert arrived == 64 * MIB
    # The server is in this process too.
    assert peak < 24 * MIB


def test_a_stream_that_was_given_up_never_looks_like_one_that_ended() -> None:
    feed = _Feed(iter_of(3))
    assert next(feed) == 0
    feed.close()
    # StopIteration would have gRPC tell the service that it has the whole recording.
    with pytest.raises(InterruptedError):
        next(feed)
    whole = _Feed(iter_of(1))
    assert list(whole) == [0]


def test_a_source_that_is_just_being_read_is_left_to_its_reader() -> None:
    feeds: list[_Feed] = []

    def closing_itself() -> Iterator[int]:
        feeds[0].close()
        yield 1

    feeds.append(_Feed(closing_itself()))
    assert next(feeds[0]) == 1


def iter_of(number: int) -> Iterator[int]:
    yield from range(number)


class Interrupted(BaseException):
    """What a task's timeout raises in the main thread."""


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals need it")
def test_a_task_that_is_stopped_stops_its_upload(
    start_server: StartServer, connect: Connect, tmp_path: Path
) -> None:
    recording = tmp_path / "long.pcm"
    with recording.open("wb") as file:
        file.truncate(200 * MIB)
    ended, cancelled = threading.Event(), threading.Event()

    def receive(stream: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(ended.set)
        # By the hundredth the main thread has begun to wait.
        for _ in range(100):
            next(stream)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        with contextlib.suppress(grpc.RpcError):
            for _ in stream:
                pass
        # grpcio's server takes some cancelled streams for finished ones. Of a finished one the call goes on.
        if ended.wait(5):
            cancelled.set()
        return protos.speechsense.UploadTalkResponse(talk_id="t1")

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    client = connect(start_server({"TalkService/UploadAsStream": receive}))
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            client.upload_stream(recording, METADATA, audio_format=PCM, chunk_size=10_000)
        assert cancelled.wait(20)
    finally:
        signal.signal(signal.SIGUSR1, before)
