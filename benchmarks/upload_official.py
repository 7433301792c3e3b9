"""Stream a file with the service's official stubs and nothing else, the yardstick. Run by run.py."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import grpc
from measure import report, resident_bytes
from yandex.cloud.speechsense.v1 import audio_pb2, talk_service_pb2, talk_service_pb2_grpc

address, key, path, chunk_size = sys.argv[1:5]


def messages() -> Iterator[talk_service_pb2.StreamTalkRequest]:
    """Yield metadata, audio header and chunks, as the service's documents say."""
    metadata = talk_service_pb2.TalkMetadata(
        connection_id="eag0bench", fields={"date": "2026-03-12T09:00:00Z"}
    )
    yield talk_service_pb2.StreamTalkRequest(metadata=metadata)
    wav = audio_pb2.ContainerAudio(container_audio_type=audio_pb2.ContainerAudio.CONTAINER_AUDIO_TYPE_WAV)
    header = audio_pb2.AudioStreamingRequest(audio_metadata=audio_pb2.AudioMetadata(container_audio=wav))
    yield talk_service_pb2.StreamTalkRequest(audio=header)
    with open(path, "rb") as file:
        while data := file.read(int(chunk_size)):
            chunk = audio_pb2.AudioStreamingRequest(chunk=audio_pb2.AudioChunk(data=data))
            yield talk_service_pb2.StreamTalkRequest(audio=chunk)


with grpc.insecure_channel(address) as channel:
    stub = talk_service_pb2_grpc.TalkServiceStub(channel)
    before = resident_bytes()
    started = time.perf_counter()
    stub.UploadAsStream(messages(), metadata=[("authorization", f"Api-Key {key}")])
    report(time.perf_counter() - started, before)
