"""The client as its users see it: plain Python in, plain Python out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_speechsense.api import ClientSettings, SpeechSenseClient, protos
from airflow_provider_speechsense.api.models import ProcessingState
from airflow_provider_speechsense.emulator import (
    BadgeFault,
    Emulator,
    TalkFault,
)
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    InvalidMetadataError,
    NotFoundError,
    PermissionDeniedError,
)
from tests.api.conftest import Connect, StartEmulator, StartServer
from tests.api.support import CHAT, CHAT_METADATA, METADATA, WAV, abort

SAMPLES = Path(__file__).parents[2] / "example_dags" / "data"
CALL = SAMPLES / "call.wav"
CALL_METADATA = json.loads((SAMPLES / "call.json").read_text())

speechsense = protos.speechsense


def advance(emulator: Emulator, seconds: float = 60.0) -> None:
    clock: Any = emulator.settings.clock
    clock.advance(seconds)


def sent(emulator: Emulator, method: str) -> list[Any]:
    """Return the requests of a method that the emulator was sent."""
    return [call.request for call in emulator.calls if call.method == method]


def got(client: SpeechSenseClient, talk_id: str, **options: Any) -> dict[str, Any]:
    (talk,) = client.get(talk_id, **options)
    return talk


# --- going up


def test_a_recording_goes_up_whole_with_its_metadata(emulator: Emulator, client: SpeechSenseClient) -> None:
    talk_id = client.upload(CALL, {**CALL_METADATA, "vip": True, "order": {"id": 7}, "none": None})
    assert emulator.audio(talk_id) == CALL.read_bytes()
    stored = emulator.talk(talk_id)
    assert stored.connection_id == "c1"
    assert stored.fields == {**CALL_METADATA, "vip": "true", "order": '{"id":7}'}


@pytest.mark.parametrize("name", ["call.wav", "call.mp3", "call.ogg"])
def test_a_stream_brings_the_same_bytes_in_each_container(
    emulator: Emulator, client: SpeechSenseClient, name: str
) -> None:
    talk_id = client.upload_stream(str(SAMPLES / name), CALL_METADATA, chunk_size=10_000)
    assert emulator.audio(talk_id) == (SAMPLES / name).read_bytes()


def test_headerless_pcm_goes_up_with_its_declared_format(start_server: StartServer, connect: Connect) -> None:
    answer = speechsense.UploadTalkResponse(talk_id="t1")
    server = start_server({"TalkService/Upload": lambda request, context: answer})
    pcm = {"sample_rate_hertz": "16000", "channels": 2}
    assert connect(server).upload(bytes(6400), METADATA, audio_format=pcm) == "t1"
    raw = server.calls[0].request.audio.audio_metadata.raw_audio
    assert (raw.audio_encoding, raw.sample_rate_hertz, raw.audio_channel_count) == (1, 16_000, 2)


def test_a_chat_goes_up_with_senders_and_times(emulator: Emulator, client: SpeechSenseClient) -> None:
    talk_id = client.upload_text(CHAT, CHAT_METADATA)
    first, second = sent(emulator, "TalkService/UploadText")[0].text_content.messages
    assert (first.user_id, first.text.text) == ("2002", "where is my parcel?")
    assert first.timestamp.ToJsonString() == "2025-04-24T14:34:19.100Z"
    assert second.user_id == "3003"
    assert emulator.talk(talk_id).is_chat


def test_a_badge_becomes_an_operation_and_then_talks(emulator: Emulator, client: SpeechSenseClient) -> None:
    metadata = json.loads((SAMPLES / "badge.json").read_text())
    begun = client.upload_badge(SAMPLES / "badge.wav", metadata)
    assert not begun.done
    assert begun.metadata["badge_id"]
    advance(emulator)
    finished = client.get_operation(begun.id)
    assert finished.done
    assert finished.error is None
    assert finished.response is not None
    assert finished.response["badge_id"] == begun.metadata["badge_id"]
    assert len(finished.response["talk_ids"]) > 1
    assert {talk.id for talk in emulator.talks} == {*finished.response["talk_ids"]}


def test_a_badge_that_fails_says_why(emulator: Emulator, client: SpeechSenseClient) -> None:
    emulator.script(BadgeFault(code="INVALID_ARGUMENT", message="nobody speaks"))
    begun = client.upload_badge(WAV, METADATA)
    advance(emulator)
    finished = client.get_operation(begun.id)
    assert (finished.done, finished.error_code) == (True, "INVALID_ARGUMENT")
    assert "nobody speaks" in (finished.error or "")


def test_an_operation_can_be_cancelled(client: SpeechSenseClient) -> None:
    begun = client.upload_badge(WAV, METADATA)
    assert client.cancel_operation(begun.id).error_code == "CANCELLED"


@pytest.mark.parametrize("kind", ["audio", "chat"])
def test_metadata_of_a_talk_is_replaced_without_sending_it_again(
    emulator: Emulator, client: SpeechSenseClient, kind: Any
) -> None:
    is_chat = kind == "chat"
    talk_id = client.upload_text(CHAT, CHAT_METADATA) if is_chat else client.upload(WAV, METADATA)
    edited = {**CHAT_METADATA, "ticket_id": 42}
    assert client.edit_metadata(talk_id, edited, kind=kind) == talk_id
    request = sent(emulator, "TalkService/UploadText" if is_chat else "TalkService/Upload")[-1]
    assert request.talk_id == talk_id
    assert not request.HasField("text_content" if is_chat else "audio")
    assert emulator.talk(talk_id).fields["ticket_id"] == "42"
    assert len(emulator.talks) == 1


def test_users_are_passed_on(emulator: Emulator, client: SpeechSenseClient) -> None:
    client.upload(WAV, METADATA, users=[{"id": 5, "role": "client", "fields": {"vip": True}}])
    (user,) = sent(emulator, "TalkService/Upload")[0].metadata.users
    assert (user.id, user.role, dict(user.fields)) == ("5", 2, {"vip": "true"})


def test_what_only_a_template_asks_for_is_warned_of_or_strictly_refused(
    emulator: Emulator, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    thin = {"date": "2025-04-24T14:34:19"}
    with caplog.at_level(logging.WARNING):
        assert connect(emulator).upload(WAV, thin)
    assert len(caplog.messages) == 2
    assert "Add what your connection declares" in caplog.text
    strict = connect(emulator, strict_metadata=True)
    with pytest.raises(InvalidMetadataError, match="2 faults"):
        strict.upload(WAV, thin)
    assert strict.upload(WAV, thin, strict=False)
    assert len(emulator.talks) == 2


def test_arguments_override_the_settings_scope(emulator: Emulator, client: SpeechSenseClient) -> None:
    talk_id = client.upload(WAV, METADATA, connection_id="c2")
    assert emulator.talk(talk_id).connection_id == "c2"
    client.statuses([talk_id], space_id="s2", connection_id="c2", project_id=None)
    (request,) = sent(emulator, "TalkService/Get")
    assert (request.space_id, request.connection_id, request.project_id) == ("s2", "c2", "")


def test_an_unknown_scope_is_a_slip_of_the_programmer(client: SpeechSenseClient) -> None:
    with pytest.raises(TypeError, match="unexpected arguments: spaceid"):
        client.count(spaceid="s1")


# --- coming back


def test_a_talk_comes_back_as_plain_json(emulator: Emulator, client: SpeechSenseClient) -> None:
    talk_id = client.upload_text(CHAT, CHAT_METADATA)
    advance(emulator)
    talk = got(client, talk_id)
    assert talk["id"] == talk_id
    assert talk["created_at"] == "2025-06-01T00:00:00Z"
    assert talk["talk_state"]["processing_state"] == "PROCESSING_STATE_SUCCESS"
    fields = {field["name"]: field for field in talk["talk_fields"]}
    assert fields["operator_id"]["value"] == "1001"
    channels = [phrase["channel_number"] for phrase in talk["transcription"]["phrases"]]
    assert channels == [1, 2]
    assert json.loads(json.dumps(talk, allow_nan=False)) == talk


def test_a_mask_that_is_absent_empty_or_given_is_so_on_the_wire(
    emulator: Emulator, client: SpeechSenseClient
) -> None:
    talk_id = client.upload_text(CHAT, CHAT_METADATA)
    advance(emulator)
    everything = got(client, talk_id)
    nothing = got(client, talk_id, results_mask=[])
    some = got(client, talk_id, results_mask=["transcription"])
    absent, empty, given = sent(emulator, "TalkService/Get")
    assert not absent.HasField("results_mask")
    assert empty.HasField("results_mask")
    assert list(empty.results_mask.paths) == []
    assert list(given.results_mask.paths) == ["transcription"]
    assert {"transcription", "talk_state"} <= everything.keys()
    assert nothing.keys() & {"transcription", "talk_state"} == set()
    assert some.keys() & {"transcription", "talk_state"} == {"transcription"}


def served(*, missing: str = "", most: int = 1000) -> Callable[[Any, Any], Any]:
    """Return a Get that knows every id but one, and answers no more than so many at a time."""

    def get(request: Any, context: Any) -> Any:
        if len(request.talk_ids) > most:
            abort("RESOURCE_EXHAUSTED", "message exceeds maximum size")(request, context)
        known = [speechsense.Talk(id=talk_id) for talk_id in request.talk_ids if talk_id != missing]
        return speechsense.GetTalkResponse(talk=known)

    return get


def test_any_number_of_ids_is_got_a_hundred_at_a_time(start_server: StartServer, connect: Connect) -> None:
    server = start_server({"TalkService/Get": served(missing="t7")})
    ids = [f"t{number}" for number in range(250)]
    found = []
    with pytest.raises(NotFoundError) as caught:
        found.extend(talk["id"] for talk in connect(server).get(ids))
    assert caught.value.ids == ("t7",)
    assert [len(call.request.talk_ids) for call in server.calls] == [100, 100, 50]
    # extend keeps what came before the error.
    assert found == [talk_id for talk_id in ids if talk_id != "t7"]


def test_an_answer_that_is_too_large_is_asked_for_in_halves_without_a_pause(
    start_server: StartServer, connect: Connect, pauses: list[float]
) -> None:
    server = start_server({"TalkService/Get": served(most=10)})
    ids = [f"t{number}" for number in range(40)]
    assert [talk["id"] for talk in connect(server).get(ids)] == ids
    assert [len(call.request.talk_ids) for call in server.calls] == [40, 20, 10, 10, 20, 10, 10]
    assert pauses == []


def test_an_id_that_the_service_refuses_does_not_spoil_the_others(
    start_emulator: StartEmulator, connect: Connect
) -> None:
    emulator = start_emulator(mixed_talk_ids="not_found")
    client = connect(emulator)
    ids = [client.upload_text(CHAT, CHAT_METADATA) for _ in range(3)]
    assert {status.talk_id for status in client.statuses([*ids, "aud-unknown"])} == {*ids}


def test_talks_are_fetched_as_they_are_read(start_server: StartServer, connect: Connect) -> None:
    server = start_server({"TalkService/Get": served()})
    talks = connect(server).get([f"t{number}" for number in range(250)])
    assert server.calls == []
    next(talks)
    assert len(server.calls) == 1


def test_statuses_ask_for_the_state_alone(emulator: Emulator, client: SpeechSenseClient) -> None:
    talk_id = client.upload_text(CHAT, CHAT_METADATA)
    (begun,) = client.statuses([talk_id, "aud-unknown"])
    advance(emulator)
    (finished,) = client.statuses([talk_id])
    assert begun.state is ProcessingState.NOT_STARTED
    assert finished.state is ProcessingState.SUCCESS
    assert set(finished.algorithms.values()) == {ProcessingState.SUCCESS}
    assert [list(request.results_mask.paths) for request in sent(emulator, "TalkService/Get")] == [
        ["talk_state"],
        ["talk_state"],
    ]


def test_a_state_of_tomorrow_is_not_finished(
    emulator: Emulator, client: SpeechSenseClient, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.script(TalkFault(unknown_state=True))
    talk_id = client.upload(WAV, METADATA)
    with caplog.at_level(logging.WARNING):
        (status,) = client.statuses([talk_id])
    assert status.state is ProcessingState.UNSPECIFIED
    assert "which this release does not know" in caplog.text
    assert isinstance(got(client, talk_id)["talk_state"]["processing_state"], int)


def test_the_reason_of_a_failure_is_found(emulator: Emulator, client: SpeechSenseClient) -> None:
    from airflow_provider_speechsense.api.models import Algorithm

    emulator.script(
        TalkFault(algorithm=Algorithm.SPEECHKIT, code="INVALID_ARGUMENT", message="audio is broken")
    )
    broken = client.upload(WAV, METADATA)
    sound = client.upload(WAV, METADATA)
    advance(emulator)
    reasons = client.failure_reasons([broken, sound])
    assert reasons.keys() == {broken}
    assert "INVALID_ARGUMENT audio is broken" in reasons[broken]


def test_a_search_reads_all_pages(emulator: Emulator, client: SpeechSenseClient) -> None:
    ids = {client.upload_text(CHAT, {**CHAT_METADATA, "score": score}) for score in range(5)}
    assert set(client.search(page_size=2)) == ids
    requests = sent(emulator, "TalkService/Search")
    assert [request.page_size for request in requests] == [2, 2, 2]
    assert requests[0].space_id == "s1"
    assert client.count() == 5
    assert len(list(client.search(limit=3))) == 3


@pytest.mark.parametrize(
    "condition",
    [
        {"key": "userMeta.ticket", "any_match": {"values": ["A", "B"]}},
        {"key": "userMeta.ticket", "any_match": {"values": ["C"]}, "inverse": True},
        {"key": "userMeta.date", "date_range": {"to_value": datetime(2025, 4, 24, 14, 35, tzinfo=UTC)}},
    ],
)
def test_a_search_narrows_down_by_filters(client: SpeechSenseClient, condition: Mapping[str, Any]) -> None:
    found = client.upload_text(CHAT, {**CHAT_METADATA, "ticket": "A"})
    client.upload_text(CHAT, {**CHAT_METADATA, "ticket": "C", "date": "2025-05-01T00:00:00Z"})
    assert list(client.search(filters=[condition])) == [found]


def test_a_search_finds_text_and_sorts(emulator: Emulator, client: SpeechSenseClient) -> None:
    dates = ("2025-04-02T00:00:00Z", "2025-04-01T00:00:00Z", "2025-04-03T00:00:00Z")
    second, first, third = (client.upload_text(CHAT, {**CHAT_METADATA, "date": date}) for date in dates)
    advance(emulator)
    assert list(client.search(sort=["userMeta.date"])) == [first, second, third]
    assert list(client.search(query="parcel", sort=["-userMeta.date"])) == [third, second, first]
    assert list(client.search(query="no such words")) == []


# --- where calls go


def test_search_and_get_may_have_an_address_of_their_own(
    start_emulator: StartEmulator, connect: Connect
) -> None:
    lobby, searching = start_emulator(), start_emulator()
    client = connect(lobby, search_endpoint=searching.address)
    client.upload(WAV, METADATA)
    client.count()
    client.statuses(["t1"])
    assert [call.method for call in lobby.calls] == ["TalkService/Upload"]
    assert [call.method for call in searching.calls] == ["TalkService/Search", "TalkService/Get"]


@pytest.mark.parametrize("refusal", ["UNIMPLEMENTED", "NOT_FOUND"])
def test_an_operation_that_one_address_does_not_know_is_asked_for_at_the_other(
    start_server: StartServer, connect: Connect, emulator: Emulator, refusal: str
) -> None:
    elsewhere = start_server({"OperationService/Get": abort(refusal, "not here")})
    client = connect(emulator, operation_endpoint=elsewhere.address)
    begun = client.upload_badge(WAV, METADATA)
    assert client.get_operation(begun.id).id == begun.id
    assert len(elsewhere.calls) == 1


def test_an_operation_that_nobody_knows_is_not_found_even_if_one_address_has_no_operations(
    start_server: StartServer, connect: Connect
) -> None:
    here = start_server({"OperationService/Get": abort("UNIMPLEMENTED")})
    there = start_server({"OperationService/Get": abort("NOT_FOUND", "no such operation")})
    for service, operations in ((here, there), (there, here)):
        with pytest.raises(NotFoundError, match="no such operation"):
            connect(service, operation_endpoint=operations.address).get_operation("o1")
    with pytest.raises(ConfigurationError, match="does not have this method"):
        connect(here).get_operation("o1")


def test_an_operation_that_is_refused_is_not_asked_for_elsewhere(
    start_server: StartServer, connect: Connect, emulator: Emulator
) -> None:
    refusing = start_server({"OperationService/Get": abort("PERMISSION_DENIED")})
    with pytest.raises(PermissionDeniedError):
        connect(emulator, operation_endpoint=refusing.address).get_operation("o1")
    assert emulator.calls == []


@pytest.mark.parametrize(
    ("endpoint", "operations"),
    [
        ("api.speechsense.yandexcloud.net:443", "operation.api.cloud.yandex.net:443"),
        ("api.talk-analytics.yandexcloud.net:443", "operation.api.cloud.yandex.net:443"),
        ("speech.example:9000", "speech.example:9000"),
        ("yandexcloud.net.example:443", "yandexcloud.net.example:443"),
    ],
)
def test_the_clouds_operations_have_an_address_of_their_own(endpoint: str, operations: str) -> None:
    with SpeechSenseClient(ClientSettings(endpoint=endpoint)) as client:
        assert client._operation_endpoints == [operations, endpoint]


@pytest.mark.parametrize("field", ["endpoint", "search_endpoint", "operation_endpoint"])
def test_a_wrong_address_is_told_when_the_client_is_made(field: str) -> None:
    settings: dict[str, Any] = {field: "https://api.speechsense.yandexcloud.net"}
    with pytest.raises(ConfigurationError, match="is not host:port"):
        SpeechSenseClient(ClientSettings(**settings))
