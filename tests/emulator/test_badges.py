"""A badge recording is cut at its pauses into talks, by an operation that takes its time."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator import BadgeFault
from tests.emulator.support import SAMPLES, Bench, Serve, header_of, messages, stream, stub_of, tone, wav

BADGE_SECONDS = 2.0


def upload_badge(bench: Bench, audio: bytes | None = None, header: Any = None, **metadata: str) -> Any:
    audio = (SAMPLES / "badge.wav").read_bytes() if audio is None else audio
    return bench.call("TalkService/UploadBadge", stream(audio, header, **metadata))


def operation(bench: Bench, operation_id: str) -> Any:
    request = protos.operation.GetOperationRequest(operation_id=operation_id)
    return bench.call("OperationService/Get", request)


def cancel(bench: Bench, operation_id: str) -> Any:
    request = protos.operation.CancelOperationRequest(operation_id=operation_id)
    return bench.call("OperationService/Cancel", request)


def talk_ids_of(done: Any) -> list[str]:
    response = messages.UploadBadgeResponse()
    assert done.response.Unpack(response)
    return list(response.talk_ids)


def cut(bench: Bench, audio: bytes | None = None, header: Any = None) -> list[str]:
    badge = upload_badge(bench, audio, header)
    bench.clock.advance(BADGE_SECONDS)
    return talk_ids_of(operation(bench, badge.id))


def test_an_operation_runs_and_is_done(bench: Bench) -> None:
    badge = upload_badge(bench)
    assert badge.id.startswith("eag")
    assert not badge.done
    assert badge.WhichOneof("result") is None
    metadata = messages.UploadBadgeMetadata()
    assert badge.metadata.Unpack(metadata)
    assert metadata.badge_id not in ("", badge.id)
    assert operation(bench, badge.id) == badge
    bench.clock.advance(BADGE_SECONDS)
    done = operation(bench, badge.id)
    assert done.done
    assert done.modified_at.ToSeconds() - done.created_at.ToSeconds() == BADGE_SECONDS
    response = messages.UploadBadgeResponse()
    assert done.response.Unpack(response)
    assert response.badge_id == metadata.badge_id
    assert len(response.talk_ids) == 3


def test_the_talks_begin_when_the_operation_is_done(bench: Bench) -> None:
    badge = upload_badge(bench, operator_id="op")
    hidden = [talk.id for talk in bench.emulator.talks]
    assert len(hidden) == 3
    assert bench.get(*hidden) == bench.search() == []
    bench.clock.advance(BADGE_SECONDS)
    ids = talk_ids_of(operation(bench, badge.id))
    assert ids == hidden
    assert [bench.state(talk_id) for talk_id in ids] == ["NOT_STARTED"] * 3
    talk = bench.analysed(ids[0])
    assert [field.name for field in talk.talk_fields] == ["operator_id"]
    assert bench.state(ids[0]) == "SUCCESS"
    assert talk.conversation_statistics.speaker_statistics[0].utterance_count == 5


def test_talks_already_analysed_when_the_operation_is_done_are_a_switch(serve: Serve) -> None:
    bench = serve(badge_talks_analysed_when_done=True)
    assert [bench.state(talk_id) for talk_id in cut(bench)] == ["SUCCESS"] * 3


def test_a_recording_is_cut_in_the_middle_of_its_long_pauses(bench: Bench) -> None:
    parts = (
        ((2000, 0), (1000, 8000), (2000, 0)),
        ((2000, 0), (500, 8000), (2980, 0), (500, 8000), (3000, 0)),
        ((3000, 0), (1000, 8000), (5000, 0)),
    )
    audio = wav([tone(*[each for part in parts for each in part])])
    ids = cut(bench, audio)
    assert [bench.emulator.audio(talk_id) for talk_id in ids] == [samples(part) for part in parts]
    talk = bench.analysed(ids[1])
    first, *_ = talk.conversation_statistics.speaker_statistics
    assert (first.utterance_count, first.complete_statistics.total_speech_ms) == (2, 1000)
    assert talk.conversation_statistics.conversation_boundaries.start_time_ms == 2000


def samples(parts: tuple[tuple[int, int], ...]) -> bytes:
    return tone(*parts).tobytes()


def test_the_shortest_pause_can_be_set(serve: Serve) -> None:
    assert len(cut(serve(badge_pause_seconds=60))) == 1
    assert len(cut(serve(badge_pause_seconds=0.3))) == 15


def test_a_pause_is_one_only_if_nobody_speaks(bench: Bench) -> None:
    one, other = tone((500, 8000), (5000, 0), (500, 8000)), tone((3000, 0), (500, 8000), (2500, 0))
    assert len(cut(bench, wav([one, other]))) == 1


def test_silence_has_no_talks(bench: Bench) -> None:
    assert cut(bench, wav([tone((5000, 0))])) == []


def test_mp3_stays_whole(bench: Bench) -> None:
    audio = (SAMPLES / "call.mp3").read_bytes()
    (talk_id,) = cut(bench, audio, header_of("MP3"))
    assert bench.emulator.audio(talk_id) == audio


def test_an_operation_can_be_cancelled_while_it_runs(bench: Bench) -> None:
    badge = upload_badge(bench)
    bench.clock.advance(1)
    cancelled = cancel(bench, badge.id)
    assert (cancelled.done, cancelled.error.code) == (True, 1)
    assert cancelled.modified_at.ToSeconds() - cancelled.created_at.ToSeconds() == 1
    bench.clock.advance(100)
    assert operation(bench, badge.id) == cancel(bench, badge.id) == cancelled
    assert bench.search() == []
    assert bench.get(*[talk.id for talk in bench.emulator.talks]) == []


def test_an_operation_that_is_done_cannot_be_cancelled(bench: Bench) -> None:
    badge = upload_badge(bench)
    bench.clock.advance(BADGE_SECONDS)
    done = operation(bench, badge.id)
    assert cancel(bench, badge.id) == done
    assert len(bench.search()) == 3


@pytest.mark.parametrize("method", ["OperationService/Get", "OperationService/Cancel"])
def test_unknown_operations_are_not_found(bench: Bench, method: str) -> None:
    request = protos.METHODS[method].request
    assert bench.refused(method, request(operation_id="eag0")) == ("NOT_FOUND", "Operation eag0 not found")
    assert bench.refused(method, request()) == ("INVALID_ARGUMENT", "operation_id is required")


def test_an_operation_can_be_made_to_fail(bench: Bench) -> None:
    bench.emulator.script(BadgeFault(code="INVALID_ARGUMENT", message="unsupported container"))
    badge = upload_badge(bench)
    assert badge.WhichOneof("result") is None
    bench.clock.advance(BADGE_SECONDS)
    failed = operation(bench, badge.id)
    assert (failed.done, failed.error.code, failed.error.message) == (True, 3, "unsupported container")
    assert bench.emulator.talks == []
    assert len(cut(bench)) == 3


def test_the_error_may_be_there_before_the_operation_is_done(bench: Bench) -> None:
    bench.emulator.script(BadgeFault(before_done=True))
    badge = upload_badge(bench)
    assert (badge.done, badge.WhichOneof("result")) == (False, "error")
    bench.clock.advance(BADGE_SECONDS)
    assert operation(bench, badge.id).done


def test_operations_may_have_an_address_of_their_own(serve: Serve) -> None:
    bench = serve(operations_on_service_endpoint=False)
    badge = upload_badge(bench)
    request = protos.operation.GetOperationRequest(operation_id=badge.id)
    assert bench.refused("OperationService/Get", request)[0] == "UNIMPLEMENTED"
    assert bench.emulator.operation_address != bench.emulator.address
    with grpc.insecure_channel(bench.emulator.operation_address) as channel:
        authorization = [("authorization", f"Api-Key {bench.emulator.api_key}")]
        assert stub_of(channel, "OperationService/Get")(request, metadata=authorization) == badge
