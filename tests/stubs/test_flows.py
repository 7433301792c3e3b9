"""The documented flows, written with the official stubs, run on the emulator; our client on their server.

Nothing of this package is used on the official side: who follows the guides has nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int64Value
from yandex.cloud.operation import operation_pb2, operation_service_pb2, operation_service_pb2_grpc
from yandex.cloud.speechsense.v1 import (
    audio_pb2,
    search_pb2,
    talk_pb2,
    talk_service_pb2,
    talk_service_pb2_grpc,
    text_pb2,
)

from airflow_provider_speechsense.api import ApiKey, ClientSettings, SpeechSenseClient
from airflow_provider_speechsense.emulator import Emulator, EmulatorSettings, ManualClock
from airflow_provider_speechsense.exceptions import NotFoundError, PermissionDeniedError

DATA = Path(__file__).parents[2] / "example_dags" / "data"
CALL_FIELDS = json.loads((DATA / "call.json").read_text())
BADGE_FIELDS = json.loads((DATA / "badge.json").read_text())
CHAT = json.loads((DATA / "chat.json").read_text())
CHUNK = 1024 * 1024
SCOPE = {"organization_id": "o1", "space_id": "s1", "connection_id": "c1", "project_id": "p1"}


def moment(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


# --- the guides' flows against the emulator


class Guide:
    """A program written by the guides: its stubs, and the header that its calls have."""

    def __init__(self, emulator: Emulator, clock: ManualClock, channel: grpc.Channel) -> None:
        self.emulator = emulator
        self.clock = clock
        self.talks = talk_service_pb2_grpc.TalkServiceStub(channel)
        self.operations = operation_service_pb2_grpc.OperationServiceStub(channel)
        self.metadata = (("authorization", f"Api-Key {emulator.api_key}"),)

    def analysed(self, talk_id: str, *mask: str) -> Any:
        self.clock.advance(3600)
        request = talk_service_pb2.GetTalkRequest(**SCOPE, talk_ids=[talk_id])
        if mask:
            request.results_mask.CopyFrom(FieldMask(paths=mask))
        (talk,) = self.talks.Get(request, metadata=self.metadata).talk
        return talk

    def upload(self, name: str, container: int, fields: dict[str, str]) -> Any:
        request = talk_service_pb2.UploadTalkRequest(
            metadata=talk_service_pb2.TalkMetadata(connection_id="c1", fields=fields),
            audio=audio_pb2.AudioRequest(
                audio_metadata=container_header(container),
                audio_data=audio_pb2.AudioChunk(data=(DATA / name).read_bytes()),
            ),
        )
        return self.talks.Upload(request, metadata=self.metadata)


def container_header(container: int) -> Any:
    return audio_pb2.AudioMetadata(container_audio=audio_pb2.ContainerAudio(container_audio_type=container))


def stream(name: str, container: int, fields: dict[str, str]) -> Iterator[Any]:
    yield talk_service_pb2.StreamTalkRequest(
        metadata=talk_service_pb2.TalkMetadata(connection_id="c1", fields=fields)
    )
    yield talk_service_pb2.StreamTalkRequest(
        audio=audio_pb2.AudioStreamingRequest(audio_metadata=container_header(container))
    )
    with (DATA / name).open("rb") as file:
        while data := file.read(CHUNK):
            chunk = audio_pb2.AudioChunk(data=data)
            yield talk_service_pb2.StreamTalkRequest(audio=audio_pb2.AudioStreamingRequest(chunk=chunk))


@pytest.fixture
def guide() -> Iterator[Guide]:
    clock = ManualClock()
    with (
        Emulator(EmulatorSettings(clock=clock)) as emulator,
        grpc.insecure_channel(emulator.address) as channel,
    ):
        yield Guide(emulator, clock, channel)


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("call.wav", audio_pb2.ContainerAudio.CONTAINER_AUDIO_TYPE_WAV),
        ("call.mp3", audio_pb2.ContainerAudio.CONTAINER_AUDIO_TYPE_MP3),
        ("call.ogg", audio_pb2.ContainerAudio.CONTAINER_AUDIO_TYPE_OGG_OPUS),
    ],
)
def test_a_call_is_uploaded_in_one_message_or_streamed_and_analysed(
    guide: Guide, name: str, container: int
) -> None:
    one = guide.upload(name, container, CALL_FIELDS)
    streamed = guide.talks.UploadAsStream(stream(name, container, CALL_FIELDS), metadata=guide.metadata)
    assert guide.emulator.audio(one.talk_id) == guide.emulator.audio(streamed.talk_id) != b""
    talk = guide.analysed(streamed.talk_id)
    assert {field.name: field.value for field in talk.talk_fields} == CALL_FIELDS
    assert talk.talk_state.processing_state == talk_pb2.PROCESSING_STATE_SUCCESS


def test_a_chat_is_uploaded_and_its_text_comes_back(guide: Guide) -> None:
    messages = [
        text_pb2.Message(
            user_id=message["user_id"],
            timestamp=moment(message["timestamp"]),
            text=text_pb2.TextPayload(text=message["text"]),
        )
        for message in CHAT["messages"]
    ]
    request = talk_service_pb2.UploadTextRequest(
        metadata=talk_service_pb2.TalkMetadata(connection_id="c1", fields=CHAT["metadata"]),
        text_content=text_pb2.TextContent(messages=messages),
    )
    talk_id = guide.talks.UploadText(request, metadata=guide.metadata).talk_id
    talk = guide.analysed(talk_id, "transcription")
    texts = [phrase.phrase.text for phrase in talk.transcription.phrases]
    assert texts == [message["text"] for message in CHAT["messages"]]
    assert not talk.HasField("talk_state")


def test_a_search_by_date_and_ticket_finds_the_call_that_is_then_got(guide: Guide) -> None:
    wav = audio_pb2.ContainerAudio.CONTAINER_AUDIO_TYPE_WAV
    talk_id = guide.upload("call.wav", wav, CALL_FIELDS).talk_id
    guide.upload("call.wav", wav, {**CALL_FIELDS, "ticket_id": "0"})
    inclusive = search_pb2.BoundsInclusive(from_inclusive=True, to_inclusive=True)
    request = talk_service_pb2.SearchTalkRequest(
        **SCOPE,
        filters=[
            search_pb2.Filter(
                key="userMeta.date",
                date_range=search_pb2.DateRangeFilter(
                    from_value=moment("2026-03-12T00:00:00Z"), bounds_inclusive=inclusive
                ),
            ),
            search_pb2.Filter(
                key="userMeta.date",
                date_range=search_pb2.DateRangeFilter(
                    to_value=moment("2026-03-13T00:00:00Z"), bounds_inclusive=inclusive
                ),
            ),
            search_pb2.Filter(
                key="userMeta.ticket_id",
                any_match=search_pb2.AnyMatchFilter(values=[CALL_FIELDS["ticket_id"]]),
            ),
            search_pb2.Filter(
                key="talk.statistics.duration_seconds",
                int_range=search_pb2.IntRangeFilter(
                    from_value=Int64Value(value=1), bounds_inclusive=inclusive
                ),
            ),
        ],
        page_size=100,
    )
    guide.clock.advance(3600)
    found = guide.talks.Search(request, metadata=guide.metadata)
    assert (list(found.talk_ids), found.talks_count, found.next_page_token) == ([talk_id], 1, "")
    assert guide.analysed(found.talk_ids[0]).id == talk_id


def test_a_badge_becomes_an_operation_that_names_its_talks(guide: Guide) -> None:
    wav = audio_pb2.ContainerAudio.CONTAINER_AUDIO_TYPE_WAV
    operation = guide.talks.UploadBadge(stream("badge.wav", wav, BADGE_FIELDS), metadata=guide.metadata)
    begun = talk_service_pb2.UploadBadgeMetadata()
    assert operation.metadata.Unpack(begun)
    assert not operation.done
    guide.clock.advance(3600)
    request = operation_service_pb2.GetOperationRequest(operation_id=operation.id)
    operation = guide.operations.Get(request, metadata=guide.metadata)
    made = talk_service_pb2.UploadBadgeResponse()
    assert operation.done
    assert operation.response.Unpack(made)
    assert made.badge_id == begun.badge_id
    assert len(made.talk_ids) > 1
    assert guide.analysed(made.talk_ids[0]).talk_state.processing_state == talk_pb2.PROCESSING_STATE_SUCCESS


def test_metadata_is_edited_by_the_id_alone(guide: Guide) -> None:
    wav = audio_pb2.ContainerAudio.CONTAINER_AUDIO_TYPE_WAV
    talk_id = guide.upload("call.wav", wav, CALL_FIELDS).talk_id
    request = talk_service_pb2.UploadTalkRequest(
        talk_id=talk_id,
        metadata=talk_service_pb2.TalkMetadata(connection_id="c1", fields={**CALL_FIELDS, "score": "5"}),
    )
    assert guide.talks.Upload(request, metadata=guide.metadata).talk_id == talk_id
    assert {field.name for field in guide.analysed(talk_id).talk_fields} == {*CALL_FIELDS, "score"}


def test_a_key_is_wanted(guide: Guide) -> None:
    request = talk_service_pb2.SearchTalkRequest(**SCOPE)
    for metadata in ((), (("authorization", "Api-Key wrong"),)):
        with pytest.raises(grpc.RpcError) as caught:
            guide.talks.Search(request, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


# --- our client against a server written with the official stubs


class Talks(talk_service_pb2_grpc.TalkServiceServicer):
    """Keeps what it is sent, and answers from it."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def Upload(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._check(context)
        self.requests.append(request)
        return talk_service_pb2.UploadTalkResponse(talk_id=request.talk_id or "t1")

    def UploadAsStream(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:
        self._check(context)
        self.requests.extend(request_iterator)
        return talk_service_pb2.UploadTalkResponse(talk_id="t2")

    def UploadText(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return talk_service_pb2.UploadTextResponse(talk_id=request.talk_id or "t3")

    def UploadBadge(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:
        self.requests.extend(request_iterator)
        operation = operation_pb2.Operation(id="o1")
        operation.metadata.Pack(talk_service_pb2.UploadBadgeMetadata(badge_id="b1"))
        return operation

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(talk_service_pb2.SearchTalkRequest.FromString(request.SerializeToString()))
        first = not request.page_token
        return talk_service_pb2.SearchTalkResponse(
            talk_ids=["t1", "t2"] if first else ["t3"], talks_count=3, next_page_token="2" if first else ""
        )

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        if "unknown" in request.talk_ids:
            context.abort(grpc.StatusCode.NOT_FOUND, "Talk unknown was not found")
        state = talk_pb2.TalkState(processing_state=talk_pb2.PROCESSING_STATE_SUCCESS)
        state.algorithm_processing_infos.add(
            algorithm=talk_pb2.ALGORITHM_SPEECHKIT, processing_state=talk_pb2.PROCESSING_STATE_SUCCESS
        )
        talks = [talk_pb2.Talk(id=talk_id, talk_state=state) for talk_id in request.talk_ids]
        return talk_service_pb2.GetTalkResponse(talk=talks)

    def _check(self, context: grpc.ServicerContext) -> None:
        if dict(context.invocation_metadata()).get("authorization") != "Api-Key AQVN1":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no role")


class Operations(operation_service_pb2_grpc.OperationServiceServicer):
    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
        operation = operation_pb2.Operation(id=request.operation_id, done=True)
        operation.response.Pack(talk_service_pb2.UploadBadgeResponse(badge_id="b1", talk_ids=["t1"]))
        return operation

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        operation = operation_pb2.Operation(id=request.operation_id, done=True)
        operation.error.code = grpc.StatusCode.CANCELLED.value[0]
        return operation


@pytest.fixture
def official() -> Iterator[tuple[Talks, str]]:
    """A server of the official stubs, and its address."""
    talks = Talks()
    server = grpc.server(ThreadPoolExecutor(4))
    talk_service_pb2_grpc.add_TalkServiceServicer_to_server(talks, server)
    operation_service_pb2_grpc.add_OperationServiceServicer_to_server(Operations(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield talks, f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def client(official: tuple[Talks, str]) -> Iterator[SpeechSenseClient]:
    with SpeechSenseClient(settings(official[1])) as connected:
        yield connected


def settings(endpoint: str, key: str = "AQVN1") -> ClientSettings:
    return ClientSettings(endpoint=endpoint, tls=None, credentials=ApiKey(key), scope=SCOPE, rpc_timeout=20)


@pytest.fixture
def requests(official: tuple[Talks, str]) -> list[Any]:
    return official[0].requests


def test_our_upload_is_what_the_official_server_takes(client: SpeechSenseClient, requests: list[Any]) -> None:
    assert client.upload(DATA / "call.wav", {**CALL_FIELDS, "direction_outgoing": False}) == "t1"
    (request,) = requests
    assert request == talk_service_pb2.UploadTalkRequest(
        metadata=talk_service_pb2.TalkMetadata(connection_id="c1", fields=CALL_FIELDS),
        audio=audio_pb2.AudioRequest(
            audio_metadata=container_header(audio_pb2.ContainerAudio.CONTAINER_AUDIO_TYPE_WAV),
            audio_data=audio_pb2.AudioChunk(data=(DATA / "call.wav").read_bytes()),
        ),
    )


@pytest.mark.parametrize("badge", [False, True], ids=["talk", "badge"])
def test_our_stream_is_what_the_official_server_takes(
    client: SpeechSenseClient, requests: list[Any], badge: bool
) -> None:
    if badge:
        operation = client.upload_badge(DATA / "call.mp3", CALL_FIELDS)
        assert (operation.id, operation.metadata) == ("o1", {"badge_id": "b1"})
    else:
        assert client.upload_stream(DATA / "call.mp3", CALL_FIELDS) == "t2"
    assert requests == list(
        stream("call.mp3", audio_pb2.ContainerAudio.CONTAINER_AUDIO_TYPE_MP3, CALL_FIELDS)
    )


def test_our_chat_is_what_the_official_server_takes(client: SpeechSenseClient, requests: list[Any]) -> None:
    assert client.upload_text(CHAT["messages"], CHAT["metadata"]) == "t3"
    (request,) = requests
    sent = [(m.user_id, m.timestamp.ToJsonString(), m.text.text) for m in request.text_content.messages]
    given = [(m["user_id"], moment(m["timestamp"]).ToJsonString(), m["text"]) for m in CHAT["messages"]]
    assert sent == given
    assert client.edit_metadata("t9", CHAT["metadata"], kind="chat") == "t9"
    assert not requests[-1].HasField("text_content")


def test_our_search_is_what_the_official_server_takes(client: SpeechSenseClient, requests: list[Any]) -> None:
    condition = {
        "key": "userMeta.date",
        "date_range": {"from_value": "2026-03-12T00:00:00Z"},
        "inverse": True,
    }
    found = client.search(
        filters=[condition], query={"text": "refund", "channel_number": 1}, sort=["-userMeta.date"]
    )
    assert list(found) == ["t1", "t2", "t3"]
    first, second = requests
    assert (first.page_token, second.page_token) == ("", "2")
    assert first == talk_service_pb2.SearchTalkRequest(
        **SCOPE,
        filters=[
            search_pb2.Filter(
                key="userMeta.date",
                date_range=search_pb2.DateRangeFilter(
                    from_value=moment("2026-03-12T00:00:00Z"), bounds_inclusive=search_pb2.BoundsInclusive()
                ),
                inverse=True,
            )
        ],
        query=search_pb2.Query(text="refund", channel_number=Int64Value(value=1)),
        page_size=1000,
        sort_data=search_pb2.SortData(
            fields=[search_pb2.SortField(field="userMeta.date", order=search_pb2.SORT_ORDER_DESC)]
        ),
    )


def test_our_client_reads_what_the_official_server_answers(
    client: SpeechSenseClient, requests: list[Any]
) -> None:
    (status,) = client.statuses(["t1"])
    assert (status.state.name, dict(status.algorithms)) == (
        "SUCCESS",
        {"SPEECHKIT": "PROCESSING_STATE_SUCCESS"},
    )
    assert list(requests[0].results_mask.paths) == ["talk_state"]
    (talk,) = client.get(["t1"], results_mask=[])
    assert talk["talk_state"]["processing_state"] == "PROCESSING_STATE_SUCCESS"
    assert requests[1].HasField("results_mask")
    with pytest.raises(NotFoundError) as caught:
        list(client.get(["t1", "unknown"]))
    assert caught.value.ids == ("unknown",)
    made = client.get_operation("o1")
    assert made.response == {"badge_id": "b1", "talk_ids": ["t1"]}
    assert client.cancel_operation("o1").error_code == "CANCELLED"


def test_our_client_tells_what_the_official_server_refuses(official: tuple[Talks, str]) -> None:
    with (
        SpeechSenseClient(settings(official[1], key="other")) as client,
        pytest.raises(PermissionDeniedError, match="no role"),
    ):
        client.upload(DATA / "call.wav", CALL_FIELDS)
