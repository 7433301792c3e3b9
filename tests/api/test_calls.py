"""Deadlines, headers and retries, over real gRPC."""

from __future__ import annotations

import logging
import math
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from airflow_provider_speechsense import __version__
from airflow_provider_speechsense.api import ApiKey, SpeechSenseClient
from airflow_provider_speechsense.api.retry import ONE_ATTEMPT, RetryPolicy
from airflow_provider_speechsense.emulator import Emulator, Fault
from airflow_provider_speechsense.exceptions import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidRequestError,
    MessageTooLargeError,
    PermissionDeniedError,
    QuotaExceededError,
    ServiceUnavailableError,
    SpeechSenseError,
    UnknownUploadOutcomeError,
)
from tests.api.conftest import Connect, StartEmulator, StartServer
from tests.api.support import CHAT, CHAT_METADATA, METADATA, WAV, BrokenSource, abort, wav

MIB = 1_048_576
PCM = {"sample_rate_hertz": 8000, "channels": 1}
#: Some hundreds of chunks of the smallest kind.
LONG = wav(seconds=30)

Upload = Callable[[SpeechSenseClient], Any]

FIRST_UPLOADS: dict[str, Upload] = {
    "Upload": lambda client: client.upload(WAV, METADATA),
    "UploadAsStream": lambda client: client.upload_stream(WAV, METADATA),
    "UploadText": lambda client: client.upload_text(CHAT, CHAT_METADATA),
    "UploadBadge": lambda client: client.upload_badge(WAV, METADATA),
}
EVERY_METHOD: dict[str, Upload] = {
    **{f"TalkService/{name}": upload for name, upload in FIRST_UPLOADS.items()},
    "TalkService/Search": lambda client: list(client.search()),
    "TalkService/Get": lambda client: client.statuses(["t1"]),
    "OperationService/Get": lambda client: client.get_operation("o1"),
    "OperationService/Cancel": lambda client: client.cancel_operation("o1"),
}

first_uploads = pytest.mark.parametrize("name", FIRST_UPLOADS)


def fault(method: str, **how: Any) -> Fault:
    return Fault(method=f"TalkService/{method}", **how)


def methods(emulator: Emulator) -> list[str]:
    return [call.method for call in emulator.calls]


# --- what every call has


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_every_call_has_a_deadline_an_id_of_its_own_our_name_and_the_secret(
    start_server: StartServer, connect: Connect, method: str
) -> None:
    server = start_server({method: abort("PERMISSION_DENIED", "no role")})
    client = connect(server, credentials=ApiKey(" AQVN1\n"), rpc_timeout=20)
    ids = []
    for _ in range(2):
        with pytest.raises(PermissionDeniedError) as caught:
            EVERY_METHOD[method](client)
        ids.append(caught.value.request_id)
    assert len({*ids}) == 2
    for call, request_id in zip(server.calls, ids, strict=True):
        assert call.headers["x-client-request-id"] == request_id == str(uuid.UUID(request_id))
        assert call.headers["user-agent"].startswith(f"airflow-provider-speechsense/{__version__} ")
        assert call.headers["authorization"] == "Api-Key AQVN1"
        # Uploads get a little more, by their size.
        assert call.seconds_left is not None
        assert 15 < call.seconds_left < 22
    assert caught.value.method == method
    assert caught.value.endpoint == server.address


def test_without_credentials_no_header_is_sent(start_server: StartServer, connect: Connect) -> None:
    server = start_server({"TalkService/Search": abort("NOT_FOUND")})
    with pytest.raises(SpeechSenseError):
        connect(server).count()
    assert "authorization" not in server.calls[0].headers


def test_the_services_own_request_id_is_in_the_error(emulator: Emulator, client: SpeechSenseClient) -> None:
    emulator.script(fault("Search", code="INVALID_ARGUMENT"))
    with pytest.raises(InvalidRequestError) as caught:
        client.count()
    assert caught.value.server_request_id == emulator.calls[0].request_id


def test_an_upload_gets_time_by_its_size_or_what_it_is_given(
    start_server: StartServer, connect: Connect
) -> None:
    refusing = dict.fromkeys(("TalkService/Upload", "TalkService/UploadAsStream"), abort("NOT_FOUND"))
    server = start_server(refusing)
    client = connect(server, rpc_timeout=20)
    two_mib = bytes(2 * MIB)
    for upload in (client.upload, client.upload_stream):
        for timeout in (None, 5):
            with pytest.raises(SpeechSenseError):
                upload(two_mib, METADATA, audio_format=PCM, timeout=timeout)
    left = [call.seconds_left or 0 for call in server.calls]
    # At 64 KiB a second two mebibytes take 32 s.
    assert all(abs(seconds - expected) < 4 for seconds, expected in zip(left, (52, 5, 52, 5), strict=True))


def test_a_call_that_takes_too_long_ends_at_its_deadline(emulator: Emulator, connect: Connect) -> None:
    emulator.script(fault("Search", stall_seconds=math.inf))
    client = connect(emulator, rpc_timeout=0.3, retry=ONE_ATTEMPT)
    with pytest.raises(DeadlineExceededError, match=r"No answer within the deadline of 0\.3 s"):
        client.count()


def test_an_answer_of_more_than_4_mib_arrives(emulator: Emulator, client: SpeechSenseClient) -> None:
    emulator.script(fault("Search", answer_bytes=6 * MIB))
    assert client.count() == 0


# --- retries


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "ABORTED", "DEADLINE_EXCEEDED"])
def test_a_read_is_tried_again_after_a_passing_error(
    emulator: Emulator, client: SpeechSenseClient, pauses: list[float], code: str
) -> None:
    emulator.script(fault("Search", code=code, count=2))
    assert client.count() == 0
    assert [call.code for call in emulator.calls] == [code, code, "OK"]
    assert 0.5 <= pauses[0] <= 1 <= pauses[1] <= 2
    assert len({call.metadata["x-client-request-id"] for call in emulator.calls}) == 3


def test_a_read_is_given_up_after_the_last_attempt_and_each_pause_was_logged(
    emulator: Emulator, connect: Connect, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    emulator.script(fault("Search", code="UNAVAILABLE", details="down", count=None))
    client = connect(emulator, retry=RetryPolicy(attempts=3))
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ServiceUnavailableError, match="not available: down"),
    ):
        client.count()
    assert len(emulator.calls) == 3
    assert len(pauses) == 2
    assert caplog.text.count("Trying again in ") == 2


def test_what_is_refused_for_good_is_not_tried_again(
    emulator: Emulator, client: SpeechSenseClient, pauses: list[float]
) -> None:
    emulator.script(fault("Search", code="INVALID_ARGUMENT", count=None))
    with pytest.raises(InvalidRequestError):
        client.count()
    assert len(emulator.calls) == 1
    assert pauses == []


def test_a_metadata_edit_is_tried_again_although_the_method_uploads(
    emulator: Emulator, client: SpeechSenseClient
) -> None:
    talk_id = client.upload(WAV, METADATA)
    emulator.script(fault("Upload", code="UNAVAILABLE"))
    assert client.edit_metadata(talk_id, {**METADATA, "score": 5}) == talk_id
    assert emulator.talk(talk_id).fields["score"] == "5"


@pytest.mark.parametrize("said", [None, 17])
def test_a_spent_quota_is_waited_out_as_the_service_says(
    emulator: Emulator, client: SpeechSenseClient, pauses: list[float], said: float | None
) -> None:
    emulator.script(fault("Get", code="RESOURCE_EXHAUSTED", retry_after_seconds=said, count=3))
    assert client.statuses(["t1"]) == []
    expected = [said] * 3 if said else [1, 5, 15]
    assert all(wait <= pause <= wait * 1.1 for wait, pause in zip(expected, pauses, strict=True))


def test_the_real_quota_passes_when_it_is_waited_for(start_emulator: StartEmulator, connect: Connect) -> None:
    emulator = start_emulator(get_quota=((1, 2), (60, 3)))
    clock: Any = emulator.settings.clock
    client = connect(emulator, sleep=clock.advance)
    for _ in range(5):
        assert client.statuses(["t1"]) == []
    assert [call.code for call in emulator.calls].count("OK") == 5
    assert "RESOURCE_EXHAUSTED" in {call.code for call in emulator.calls}


def test_a_quota_that_does_not_pass_in_time_is_reported(
    emulator: Emulator, connect: Connect, pauses: list[float]
) -> None:
    emulator.script(fault("Get", code="RESOURCE_EXHAUSTED", details="quota", count=None))
    client = connect(emulator, retry=RetryPolicy(max_quota_wait=20))
    with pytest.raises(QuotaExceededError, match="The quota is spent: quota"):
        client.statuses(["t1"])
    assert len(pauses) == 2
    assert sum(pauses) <= 20


def test_an_oversize_message_is_neither_waited_for_nor_repeated(
    emulator: Emulator, client: SpeechSenseClient, pauses: list[float]
) -> None:
    emulator.script(
        fault("UploadText", code="RESOURCE_EXHAUSTED", details="Received message larger than max")
    )
    with pytest.raises(MessageTooLargeError):
        client.upload_text(CHAT, CHAT_METADATA)
    assert len(emulator.calls) == 1
    assert pauses == []


# --- first uploads


@first_uploads
@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"])
def test_a_first_upload_whose_answer_is_lost_is_not_repeated(
    emulator: Emulator, client: SpeechSenseClient, pauses: list[float], name: str, code: str
) -> None:
    emulator.script(fault(name, code=code, answer_lost=True, details="lost"))
    with pytest.raises(UnknownUploadOutcomeError) as caught:
        FIRST_UPLOADS[name](client)
    error = caught.value
    assert not error.retryable
    assert (error.method, error.code, error.endpoint) == (f"TalkService/{name}", code, emulator.address)
    assert error.request_id == emulator.calls[0].metadata["x-client-request-id"]
    assert error.server_request_id == emulator.calls[0].request_id
    assert "search for the talk" in str(error)
    assert methods(emulator) == [f"TalkService/{name}"]
    assert pauses == []


def test_a_stream_whose_connection_breaks_is_not_repeated(emulator: Emulator, connect: Connect) -> None:
    relay = emulator.relay()
    relay.cut_after(200_000)
    client = connect(relay.address, credentials=ApiKey(emulator.api_key))
    with pytest.raises(ServiceUnavailableError, match="not sent to its end, so there is no talk") as caught:
        # Far more than all buffers on the way take, or gRPC would have been told of the end before the break.
        client.upload_stream(wav(seconds=3600), METADATA)
    assert caught.value.retryable
    assert emulator.talks == []
    assert len(emulator.calls) <= 1


@first_uploads
def test_a_first_upload_that_is_refused_is_refused(
    emulator: Emulator, client: SpeechSenseClient, name: str
) -> None:
    emulator.script(fault(name, code="PERMISSION_DENIED"))
    with pytest.raises(PermissionDeniedError):
        FIRST_UPLOADS[name](client)
    assert len(emulator.calls) == 1


@first_uploads
def test_a_first_upload_is_repeated_after_a_refusal_by_quota(
    emulator: Emulator, client: SpeechSenseClient, pauses: list[float], name: str
) -> None:
    emulator.script(fault(name, code="RESOURCE_EXHAUSTED", count=2))
    assert FIRST_UPLOADS[name](client)
    assert len(emulator.calls) == 3
    assert len(pauses) == 2


def test_a_repeated_stream_is_read_again_from_byte_0(emulator: Emulator, client: SpeechSenseClient) -> None:
    emulator.script(fault("UploadAsStream", code="RESOURCE_EXHAUSTED", after_bytes=200_000))
    source = BrokenSource(LONG, len(LONG))
    talk_id = client.upload_stream(source, METADATA, chunk_size=10_000)
    assert emulator.audio(talk_id) == LONG
    assert source.opened == 2


@pytest.mark.parametrize("name", ["Upload", "UploadAsStream"])
def test_a_first_upload_is_repeated_if_no_connection_came_about(
    start_emulator: StartEmulator, connect: Connect, name: str
) -> None:
    emulator = start_emulator()
    emulator.stop()

    def begin_at_last(seconds: float) -> None:
        start_emulator(port=emulator.port)
        # gRPC lets up to a second pass before it tries a dead address again.
        grpc.channel_ready_future(client._channels.get(endpoint)).result(timeout=20)

    endpoint = f"127.0.0.1:{emulator.port}"
    client = connect(endpoint, credentials=ApiKey("emulator-key"), sleep=begin_at_last)
    assert FIRST_UPLOADS[name](client)


def test_a_stream_that_never_left_is_not_of_unknown_outcome(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"127.0.0.1:{silent.getsockname()[1]}", retry=ONE_ATTEMPT)
        with pytest.raises(DeadlineExceededError):
            client.upload_stream(WAV, METADATA, timeout=0.3)


# --- credentials


class Renewable:
    """Credentials that get a good secret when they are renewed, if there is one to get."""

    def __init__(self, good: str | None) -> None:
        self.good = good
        self.secret = "expired"
        self.renewals = 0

    def authorization(self) -> str | None:
        return f"Api-Key {self.secret}"

    def renew(self) -> bool:
        self.renewals += 1
        self.secret = self.good or self.secret
        return self.good is not None

    def has_secret(self) -> bool:
        return True


@first_uploads
def test_credentials_that_can_be_renewed_are_renewed_once(
    emulator: Emulator, connect: Connect, pauses: list[float], name: str
) -> None:
    credentials = Renewable(emulator.api_key)
    assert FIRST_UPLOADS[name](connect(emulator, credentials=credentials))
    assert [call.code for call in emulator.calls] == ["UNAUTHENTICATED", "OK"]
    assert credentials.renewals == 1
    assert pauses == []


@pytest.mark.parametrize(("good", "calls"), [(None, 1), ("wrong too", 2)])
def test_credentials_that_stay_refused_are_an_error(
    emulator: Emulator, connect: Connect, good: str | None, calls: int
) -> None:
    credentials = Renewable(good)
    with pytest.raises(AuthenticationError, match="auth_type of the connection"):
        connect(emulator, credentials=credentials).count()
    assert len(emulator.calls) == calls
    assert credentials.renewals == 1


def test_closing_the_client_ends_the_call_under_way(emulator: Emulator, connect: Connect) -> None:
    emulator.script(fault("Search", stall_seconds=math.inf))
    client = connect(emulator)
    closing = threading.Timer(0.2, client.close)
    closing.start()
    with pytest.raises(ServiceUnavailableError, match="cancelled"):
        client.count()
    closing.join()


def test_a_stream_that_ran_out_of_time_before_its_end_says_so_and_how_to_allow_more(
    emulator: Emulator, client: SpeechSenseClient
) -> None:
    emulator.script(fault("UploadAsStream", code=None, stall_seconds=math.inf))
    with pytest.raises(DeadlineExceededError, match=r"no talk of it; .*upload_timeout"):
        client.upload_stream(wav(seconds=3600), METADATA, timeout=0.5)
    assert emulator.talks == []
