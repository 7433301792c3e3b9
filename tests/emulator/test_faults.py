"""A script can make things go wrong: codes, stalls, lost answers, oversize answers, broken connections."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator import BadgeFault, Fault, TalkFault
from tests.emulator.support import (
    Bench,
    Serve,
    eventually,
    messages,
    stream,
    stub_of,
    tone,
    upload_request,
    wav,
)

GET = messages.GetTalkRequest(talk_ids=["aud0"])
AUDIO = wav([tone((500, 5000))])
MEGABYTE = 1024 * 1024


def test_a_code_strikes_so_many_calls_after_so_many(bench: Bench) -> None:
    bench.emulator.script(
        Fault(method="TalkService/Get", code="UNAVAILABLE", details="try later", count=2, after=1)
    )
    answers = []
    for _ in range(5):
        try:
            bench.get("aud0")
            answers.append("OK")
        except grpc.RpcError as error:
            answers.append(f"{error.code().name}: {error.details()}")
    assert answers == ["OK", "UNAVAILABLE: try later", "UNAVAILABLE: try later", "OK", "OK"]
    assert [call.code for call in bench.emulator.calls] == ["OK", "UNAVAILABLE", "UNAVAILABLE", "OK", "OK"]


def test_a_fault_strikes_its_method_only(bench: Bench) -> None:
    bench.emulator.script(Fault(method="TalkService/Search", code="INTERNAL"))
    assert bench.upload()
    assert bench.refused("TalkService/Search", messages.SearchTalkRequest())[0] == "INTERNAL"


def test_a_fault_may_strike_all_methods_and_for_ever_until_it_is_cleared(bench: Bench) -> None:
    bench.emulator.script(Fault(method="*", code="UNAVAILABLE", count=None))
    for method, request in (("TalkService/Get", GET), ("TalkService/Upload", upload_request(AUDIO))):
        for _ in range(3):
            assert bench.refused(method, request)[0] == "UNAVAILABLE"
    bench.emulator.clear_script()
    assert bench.get("aud0") == []


def test_faults_come_one_after_another(bench: Bench) -> None:
    for code in ("UNAVAILABLE", "ABORTED"):
        bench.emulator.script(Fault(method="TalkService/Get", code=code))
    assert [bench.refused("TalkService/Get", GET)[0] for _ in range(2)] == ["UNAVAILABLE", "ABORTED"]


def test_the_refused_upload_leaves_nothing(bench: Bench) -> None:
    bench.emulator.script(Fault(method="TalkService/Upload", code="UNAVAILABLE"))
    bench.refused("TalkService/Upload", upload_request(AUDIO))
    assert bench.emulator.talks == []


def test_a_lost_answer_leaves_the_upload_stored(bench: Bench) -> None:
    bench.emulator.script(
        Fault(method="TalkService/UploadAsStream", code="UNAVAILABLE", answer_lost=True),
        Fault(method="TalkService/Upload", code="DEADLINE_EXCEEDED", answer_lost=True),
    )
    assert bench.refused("TalkService/UploadAsStream", stream(AUDIO))[0] == "UNAVAILABLE"
    assert bench.refused("TalkService/Upload", upload_request(AUDIO))[0] == "DEADLINE_EXCEEDED"
    assert len(bench.search()) == 2


def test_a_refusal_may_say_when_to_come_back(bench: Bench) -> None:
    bench.emulator.script(Fault(method="TalkService/Get", code="RESOURCE_EXHAUSTED", retry_after_seconds=1.5))
    error = bench.refusal("TalkService/Get", GET)
    status = protos.rpc.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    retry_info = protos.rpc.RetryInfo()
    assert status.details[1].Unpack(retry_info)
    assert retry_info.retry_delay.ToMilliseconds() == 1500


def test_an_answer_can_be_padded_beyond_what_the_client_takes(bench: Bench) -> None:
    bench.emulator.script(
        Fault(method="TalkService/Get", answer_bytes=5 * MEGABYTE, count=2),
    )
    talk_id = bench.upload()
    assert bench.get(talk_id)[0].id == talk_id
    with grpc.insecure_channel(bench.emulator.address) as channel:
        authorization = [("authorization", f"Api-Key {bench.emulator.api_key}")]
        with pytest.raises(grpc.RpcError) as caught:
            stub_of(channel, "TalkService/Get")(GET, metadata=authorization)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()


def test_a_stream_can_be_refused_after_so_many_bytes(bench: Bench) -> None:
    bench.emulator.script(Fault(method="TalkService/UploadAsStream", code="UNAVAILABLE", after_bytes=2000))
    assert bench.refused("TalkService/UploadAsStream", stream(AUDIO, chunk=500))[0] == "UNAVAILABLE"
    assert bench.emulator.talks == []
    assert bench.call("TalkService/UploadAsStream", stream(AUDIO)).talk_id


def test_a_stall_lasts_its_seconds_and_then_the_answer_comes(bench: Bench) -> None:
    bench.emulator.script(Fault(method="TalkService/Get", stall_seconds=0.05))
    begun = time.monotonic()
    assert bench.get("aud0") == []
    assert time.monotonic() - begun >= 0.05


def test_a_stall_may_end_in_a_code(bench: Bench) -> None:
    bench.emulator.script(Fault(method="TalkService/Get", stall_seconds=0.01, code="UNAVAILABLE"))
    assert bench.refused("TalkService/Get", GET)[0] == "UNAVAILABLE"


def test_an_endless_stall_ends_with_the_clients_patience(bench: Bench) -> None:
    bench.emulator.script(Fault(method="TalkService/Get", stall_seconds=math.inf))
    assert bench.refused("TalkService/Get", GET, timeout=0.1)[0] == "DEADLINE_EXCEEDED"
    eventually(lambda: len(bench.emulator.calls) == 1)


def test_an_endless_stall_does_not_delay_the_end(serve: Serve) -> None:
    bench = serve(threads=4)
    bench.emulator.script(Fault(method="TalkService/Get", stall_seconds=math.inf, count=4))
    authorization = [("authorization", f"Api-Key {bench.emulator.api_key}")]
    stub = stub_of(bench.channel, "TalkService/Get")
    calls = [stub.future(GET, metadata=authorization) for _ in range(4)]
    eventually(lambda: bench.emulator.calls_in_flight == 4)
    begun = time.monotonic()
    bench.emulator.stop()
    assert time.monotonic() - begun < 2
    assert all(call.exception() for call in calls)
    eventually(lambda: bench.emulator.calls_in_flight == 0)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"method": "Get", "code": "INTERNAL"}, "is no method"),
        ({"method": "*", "code": "BROKEN"}, "no status of a failure"),
        ({"method": "*", "code": "OK"}, "no status of a failure"),
        ({"method": "*"}, "needs a code"),
        ({"method": "*", "stall_seconds": 1, "answer_lost": True}, "need a code"),
        ({"method": "TalkService/Get", "code": "INTERNAL", "after_bytes": 5}, "needs a method that streams"),
        ({"method": "*", "code": "INTERNAL", "after_bytes": 5}, "needs a method that streams"),
    ],
)
def test_a_fault_that_cannot_strike_is_refused(fault: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Fault(**fault)


def test_a_badge_cannot_fail_with_a_code_that_is_none() -> None:
    with pytest.raises(ValueError, match="BROKEN"):
        BadgeFault(code="BROKEN")


def test_clearing_forgets_faults_of_talks_and_badges_too(bench: Bench) -> None:
    bench.emulator.script(TalkFault(unknown_state=True), BadgeFault(before_done=True))
    bench.emulator.clear_script()
    assert bench.state(bench.upload()) == "NOT_STARTED"
    assert bench.call("TalkService/UploadBadge", stream(AUDIO)).WhichOneof("result") is None


# Refusing large streams


def large(megabytes: int) -> Iterator[Any]:
    yield from stream(AUDIO)
    chunk = messages.StreamTalkRequest(audio={"chunk": {"data": bytes(MEGABYTE)}})
    for _ in range(megabytes):
        yield chunk


@pytest.mark.parametrize("why", ["credentials", "fault", "order", "bytes"])
def test_large_streams_can_be_refused_again_and_again(serve: Serve, why: str) -> None:
    bench = serve()
    if why == "fault":
        bench.emulator.script(Fault(method="TalkService/UploadAsStream", code="UNAVAILABLE", count=None))
    if why == "bytes":
        fault = Fault(
            method="TalkService/UploadAsStream", code="UNAVAILABLE", count=None, after_bytes=MEGABYTE
        )
        bench.emulator.script(fault)
    authorization = "Api-Key wrong" if why == "credentials" else None
    for _ in range(50):
        request = large(8)
        if why == "order":
            next(request)
        error = bench.refusal("TalkService/UploadAsStream", request, authorization=authorization)
        assert error.code().name in ("UNAUTHENTICATED", "UNAVAILABLE", "INVALID_ARGUMENT")
    assert len(bench.emulator.calls) == 50
    # So much is read before the refusal is sent, and not much more: the client learns of it in the middle.
    assert all(call.bytes <= 6 * MEGABYTE for call in bench.emulator.calls)
    assert bench.emulator.talks == []


# Broken connections


def over(address: str, bench: Bench, request: Any, method: str = "TalkService/UploadAsStream") -> Any:
    with grpc.insecure_channel(address) as channel:
        authorization = [("authorization", f"Api-Key {bench.emulator.api_key}")]
        return stub_of(channel, method)(request, metadata=authorization, timeout=20)


def test_a_relay_passes_everything(bench: Bench) -> None:
    relay = bench.emulator.relay()
    audio = wav([tone((20_000, 5000))])
    talk_id = over(relay.address, bench, stream(audio, chunk=10_000)).talk_id
    assert bench.emulator.audio(talk_id) == audio


def test_a_relay_breaks_the_connection_after_so_many_bytes(bench: Bench) -> None:
    relay = bench.emulator.relay()
    relay.cut_after(MEGABYTE, count=2)
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            over(relay.address, bench, large(8))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert bench.emulator.talks == []
    eventually(lambda: [call.code for call in bench.emulator.calls] == ["CANCELLED"] * 2)
    assert all(call.bytes < 2 * MEGABYTE for call in bench.emulator.calls)
    assert over(relay.address, bench, large(2)).talk_id


def test_a_relay_can_be_cut_at_any_time(bench: Bench) -> None:
    relay = bench.emulator.relay()
    bench.emulator.script(Fault(method="TalkService/Get", stall_seconds=math.inf))
    with grpc.insecure_channel(relay.address) as channel:
        authorization = [("authorization", f"Api-Key {bench.emulator.api_key}")]
        call = stub_of(channel, "TalkService/Get").future(GET, metadata=authorization)
        grpc.channel_ready_future(channel).result(10)
        eventually(lambda: relay.received > 100)
        relay.cut()
        assert call.exception().code() is grpc.StatusCode.UNAVAILABLE


def test_a_closed_relay_accepts_nobody(bench: Bench) -> None:
    relay = bench.emulator.relay()
    host, _, port = relay.address.rpartition(":")
    relay.close()
    with pytest.raises(OSError), socket.create_connection((host, int(port)), timeout=5):
        pass


def test_a_relay_in_front_of_nothing_resets_its_clients(bench: Bench) -> None:
    relay = bench.emulator.relay()
    for server in bench.emulator._servers:
        server.stop(0).wait()
    host, _, port = relay.address.rpartition(":")
    # The reset may come while the client still connects.
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as client:
        assert client.recv(1) == b""
