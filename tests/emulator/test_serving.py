"""The emulator is a gRPC server like any other: TLS, limits, request ids, status details, a clean end."""

from __future__ import annotations

import datetime
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator import Emulator, EmulatorSettings
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

GET = messages.GetTalkRequest(talk_ids=["aud1"])


def make_pair(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for loopback, which is its own CA, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


def get_over_tls(emulator: Emulator, credentials: grpc.ChannelCredentials) -> None:
    with grpc.secure_channel(f"localhost:{emulator.port}", credentials) as channel:
        authorization = [("authorization", f"Api-Key {emulator.api_key}")]
        stub_of(channel, "TalkService/Get")(GET, metadata=authorization, timeout=10)


def test_tls_is_spoken_when_a_certificate_is_given(serve: Serve, tmp_path: Path) -> None:
    certificate, key = make_pair(tmp_path)
    emulator = serve(tls_cert=certificate, tls_key=key).emulator
    get_over_tls(emulator, grpc.ssl_channel_credentials(certificate.read_bytes()))
    assert emulator.calls[-1].code == "OK"


def test_mutual_tls_turns_away_clients_without_a_certificate(serve: Serve, tmp_path: Path) -> None:
    certificate, key = make_pair(tmp_path)
    emulator = serve(tls_cert=certificate, tls_key=key, client_ca=certificate).emulator
    pem, key_pem = certificate.read_bytes(), key.read_bytes()
    get_over_tls(emulator, grpc.ssl_channel_credentials(pem, key_pem, pem))
    with pytest.raises(grpc.RpcError) as caught:
        get_over_tls(emulator, grpc.ssl_channel_credentials(pem))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("wrong", [{"tls_cert": "a.pem"}, {"client_ca": "ca.pem"}, {"quota_unit": "byte"}])
def test_settings_that_do_not_fit_together_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmulatorSettings(**wrong)


def test_a_port_that_is_taken_is_an_os_error(bench: Bench) -> None:
    second = Emulator(EmulatorSettings(port=bench.emulator.port))
    with pytest.raises(OSError, match=str(bench.emulator.port)):
        second.start()


def test_ipv6_works_too(serve: Serve) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
    bench = serve(host="::1")
    assert bench.emulator.address.startswith("[::1]:")
    assert bench.get("aud1") == []


def test_a_request_over_the_message_limit_is_refused_by_grpc_itself(serve: Serve) -> None:
    bench = serve(max_message_bytes=100_000)
    assert bench.upload(bytes_of(99_000))
    code, text = bench.refused("TalkService/Upload", upload_request(bytes_of(101_000)))
    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in text


def bytes_of(size: int) -> bytes:
    return wav([tone((size // 16, 5000))])


def test_methods_that_are_not_there_are_unimplemented(bench: Bench) -> None:
    request = protos.METHODS["ProjectService/Create"].request()
    assert bench.refused("ProjectService/Create", request)[0] == "UNIMPLEMENTED"


def test_the_java_package_is_no_service_name(bench: Bench) -> None:
    call = bench.channel.unary_unary("/yandex.cloud.api.speechsense.v1.TalkService/Get")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_good_answers_carry_their_request_id_in_the_initial_metadata(bench: Bench) -> None:
    _, call = bench.call_with_metadata("TalkService/Get", GET)
    headers = dict(call.initial_metadata())
    assert headers["x-request-id"] == bench.emulator.calls[-1].request_id
    assert headers["x-server-trace-id"]


def test_refusals_carry_their_request_id_and_a_status_in_the_trailers(bench: Bench) -> None:
    error = bench.refusal("TalkService/Get", messages.GetTalkRequest())
    trailers = dict(error.trailing_metadata())
    status = protos.rpc.Status.FromString(trailers["grpc-status-details-bin"])
    info = protos.rpc.RequestInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (3, error.details())
    assert info.request_id == trailers["x-request-id"] == bench.emulator.calls[-1].request_id


def test_calls_are_recorded_without_credentials_and_without_audio(bench: Bench) -> None:
    audio = wav([tone((500, 5000))])
    bench.upload(audio)
    bench.call("TalkService/UploadAsStream", stream(audio, chunk=1000))
    upload, streamed = bench.emulator.calls
    assert (upload.method, upload.code, upload.messages) == ("TalkService/Upload", "OK", 1)
    assert upload.request.metadata.connection_id == "c1"
    assert not upload.request.audio.audio_data.data
    assert upload.bytes > len(audio)
    assert upload.metadata["authorization"] == "Api-Key ***"
    assert 19 < (upload.deadline_seconds or 0) < 21
    assert (streamed.request, streamed.messages) == (None, 2 + -(-len(audio) // 1000))


def test_only_so_many_calls_are_kept(serve: Serve) -> None:
    bench = serve(keep_calls=2, get_quota=())
    for i in range(3):
        bench.get(f"aud{i}")
    assert [list(call.request.talk_ids) for call in bench.emulator.calls] == [["aud1"], ["aud2"]]


def test_a_call_that_the_client_cancels_is_recorded_as_such_and_leaves_nothing(bench: Bench) -> None:
    asked, released = threading.Event(), threading.Event()

    def interrupted() -> Iterator[Any]:
        yield from stream(wav([tone((500, 5000))]))
        asked.set()
        released.wait(10)

    stub = stub_of(bench.channel, "TalkService/UploadAsStream")
    call = stub.future(interrupted(), metadata=[("authorization", f"Api-Key {bench.emulator.api_key}")])
    assert asked.wait(10)
    call.cancel()
    released.set()
    eventually(lambda: [record.code for record in bench.emulator.calls] == ["CANCELLED"])
    assert bench.emulator.talks == []


def test_stopping_twice_is_harmless_and_removes_the_recordings(bench: Bench) -> None:
    talk_id = bench.upload()
    recording = bench.emulator.talk(talk_id).recording
    assert recording is not None
    assert recording.path.exists()
    bench.emulator.stop()
    bench.emulator.stop()
    assert not recording.path.exists()
    assert not os.path.exists(recording.path.parent)


def test_what_was_uploaded_can_be_looked_at(bench: Bench) -> None:
    audio = wav([tone((500, 5000))])
    talk_id = bench.upload(audio, operator_name="Анна")
    chat_id = bench.upload_chat((1, "cl", "hello"))
    assert [talk.id for talk in bench.emulator.talks] == [talk_id, chat_id]
    assert bench.emulator.talk(talk_id).fields == {"operator_name": "Анна"}
    assert bench.emulator.audio(talk_id) == audio
    assert bench.emulator.audio(chat_id) == b""
    assert bench.emulator.talk(chat_id).messages[0].text == "hello"
    with pytest.raises(KeyError):
        bench.emulator.talk("aud0")


def test_an_emulator_that_was_not_started_has_no_talks() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = Emulator().talks


def test_a_clock_goes_only_forward(bench: Bench) -> None:
    with pytest.raises(ValueError, match="back"):
        bench.clock.advance(-1)
