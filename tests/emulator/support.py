"""What the emulator's tests share: bare stubs, and recordings whose numbers are known."""

from __future__ import annotations

import io
import math
import time
import wave
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator import (
    Connection,
    ConnectionType,
    Emulator,
    EmulatorSettings,
    Key,
    ManualClock,
)
from airflow_provider_speechsense.emulator.connections import TEMPLATES

SAMPLES = Path(__file__).parents[2] / "example_dags" / "data"
RATE = 8000
#: The emulator's own default takes 2 s from upload to the end of the analysis.
ANALYSED = 2.0

messages = protos.speechsense


@dataclass
class Bench:
    """An emulator, its clock, and bare stubs on it, as a client of another make would have them."""

    emulator: Emulator
    clock: ManualClock
    channel: grpc.Channel

    def call(
        self, method: str, request: Any, *, authorization: str | None = None, timeout: float = 20
    ) -> Any:
        """Call a method; streams take an iterable of requests."""
        return self.call_with_metadata(method, request, authorization=authorization, timeout=timeout)[0]

    def call_with_metadata(
        self, method: str, request: Any, *, authorization: str | None = None, timeout: float = 20
    ) -> tuple[Any, Any]:
        if authorization is None:
            authorization = f"Api-Key {self.emulator.api_key}"
        metadata = [("authorization", authorization)] if authorization else []
        stub = stub_of(self.channel, method)
        return stub.with_call(request, metadata=metadata, timeout=timeout)

    def refusal(self, method: str, request: Any, **options: Any) -> grpc.RpcError:
        """Call a method that must fail, and return its error."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, request, **options)
        return caught.value

    def refused(self, method: str, request: Any, **options: Any) -> tuple[str, str]:
        """Call a method that must fail, and return the code and text."""
        error = self.refusal(method, request, **options)
        return error.code().name, error.details()

    def upload(self, audio: bytes | None = None, **metadata: Any) -> str:
        """Upload a recording, a short tone by default, and return the talk's id."""
        audio = wav([tone((100, 0), (500, 8000))]) if audio is None else audio
        return self.call("TalkService/Upload", upload_request(audio, **metadata)).talk_id

    def upload_chat(self, *turns: tuple[float, str, str], **metadata: Any) -> str:
        """Upload a chat, and return the talk's id."""
        return self.call("TalkService/UploadText", chat_request(*turns, **metadata)).talk_id

    def get(self, *talk_ids: str, mask: Sequence[str] | None = None, **scope: str) -> list[Any]:
        request = messages.GetTalkRequest(talk_ids=talk_ids, **scope)
        if mask is not None:
            request.results_mask.CopyFrom(protos.well_known.FieldMask(paths=mask))
        return list(self.call("TalkService/Get", request).talk)

    def analysed(self, talk_id: str) -> Any:
        """Return a talk after its analysis."""
        self.clock.advance(ANALYSED)
        return self.get(talk_id)[0]

    def state(self, talk_id: str) -> str:
        """Return the overall state, without the API's prefix."""
        return state_name(self.get(talk_id)[0].talk_state.processing_state)

    def algorithms(self, talk_id: str) -> dict[str, str]:
        """Return the states of the algorithms, all without the API's prefixes."""
        infos = self.get(talk_id)[0].talk_state.algorithm_processing_infos
        names = messages.Algorithm
        return {
            names.Name(info.algorithm).removeprefix("ALGORITHM_"): state_name(info.processing_state)
            for info in infos
        }

    def search(self, *filters: Mapping[str, Any], **request: Any) -> list[str]:
        message = messages.SearchTalkRequest(filters=[messages.Filter(**each) for each in filters], **request)
        return list(self.call("TalkService/Search", message).talk_ids)


Serve = Callable[..., Bench]


def state_name(number: int) -> str:
    return messages.ProcessingState.Name(number).removeprefix("PROCESSING_STATE_")


def serving(settings: EmulatorSettings, clock: ManualClock) -> Iterator[Bench]:
    with Emulator(settings) as emulator, grpc.insecure_channel(emulator.address, CLIENT_OPTIONS) as channel:
        yield Bench(emulator, clock, channel)


#: Answers may be large, and every test wants a connection of its own.
CLIENT_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


def stub_of(channel: grpc.Channel, method: str) -> Any:
    kind = protos.METHODS[method]
    make = channel.stream_unary if kind.client_streaming else channel.unary_unary
    return make(
        kind.path,
        request_serializer=kind.request.SerializeToString,
        response_deserializer=kind.response.FromString,
    )


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not happen within 10 s"
        time.sleep(0.002)


def tone(*parts: tuple[int, int], rate: int = RATE) -> array[int]:
    """Return samples of a tone: (ms, amplitude) one after another; amplitude 0 is silence."""
    samples = array("h")
    end = 0
    for ms, amplitude in parts:
        end += ms
        count = end * rate // 1000 - len(samples)
        samples.extend(round(amplitude * math.sin(2 * math.pi * 440 * i / rate)) for i in range(count))
    return samples


def interleaved(channels: Sequence[array[int]]) -> bytes:
    mixed = array("h", bytes(2 * sum(map(len, channels))))
    for number, channel in enumerate(channels):
        mixed[number :: len(channels)] = channel
    return mixed.tobytes()


def wav(channels: Sequence[array[int]], rate: int = RATE) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(len(channels))
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(interleaved(channels))
    return file.getvalue()


def metadata_of(connection_id: str = "c1", users: Any = (), **fields: str) -> Any:
    return messages.TalkMetadata(connection_id=connection_id, users=users, fields=fields)


def header_of(container: str = "WAV") -> Any:
    return messages.AudioMetadata(
        container_audio={"container_audio_type": f"CONTAINER_AUDIO_TYPE_{container}"}
    )


def raw_header(rate: int, channels: int) -> Any:
    encoding = "AUDIO_ENCODING_LINEAR16_PCM"
    return messages.AudioMetadata(
        raw_audio={"audio_encoding": encoding, "sample_rate_hertz": rate, "audio_channel_count": channels}
    )


def upload_request(audio: bytes, header: Any = None, talk_id: str = "", **metadata: Any) -> Any:
    request = messages.UploadTalkRequest(metadata=metadata_of(**metadata), talk_id=talk_id)
    request.audio.audio_metadata.CopyFrom(header or header_of())
    request.audio.audio_data.data = audio
    return request


def chat_request(*turns: tuple[float, str, str], **metadata: Any) -> Any:
    """Return the upload of a chat of turns (seconds since 1970, sender, text)."""
    fields = {"operator_id": "op", "client_id": "cl", "bot_id": "bot", **metadata}
    request = messages.UploadTextRequest(metadata=metadata_of(**fields))
    for at, user_id, text in turns:
        message = request.text_content.messages.add(user_id=user_id)
        message.timestamp.FromMilliseconds(round(at * 1000))
        message.text.text = text
    return request


def stream(audio: bytes, header: Any = None, chunk: int = 65_536, **metadata: Any) -> Iterator[Any]:
    yield event(metadata=metadata_of(**metadata))
    yield event(audio={"audio_metadata": header or header_of()})
    for begin in range(0, len(audio), chunk):
        yield event(audio={"chunk": {"data": audio[begin : begin + chunk]}})


def event(**member: Any) -> Any:
    return messages.StreamTalkRequest(**member)


MONO = wav([tone((500, 5000))])
STEREO = wav([tone((500, 5000)), tone((500, 5000))])
CALL_FIELDS = {
    "operator_name": "Anna",
    "operator_id": "op",
    "client_name": "Boris",
    "client_id": "cl",
    "date": "2025-04-24T14:34:19Z",
    "direction_outgoing": "true",
    "language": "ru-RU",
}
BOT_FIELDS = {"bot_name": "Helper", "bot_id": "bot"}


def two_channel(**more: Key) -> dict[str, Connection]:
    template = TEMPLATES[ConnectionType.TWO_CHANNEL]
    return {"c1": Connection(ConnectionType.TWO_CHANNEL, {**template, **more})}


def edit(talk_id: str, method: str = "Upload", **metadata: str) -> Any:
    request = messages.UploadTalkRequest if method == "Upload" else messages.UploadTextRequest
    return request(talk_id=talk_id, metadata=metadata_of(**metadata))
