"""A gRPC status becomes the error that says what to do. Over a real server, because texts are gRPC's own."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.retry import Failure
from airflow_provider_speechsense.api.status import CallFacts, error_of, failure_of
from airflow_provider_speechsense.exceptions import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    MessageTooLargeError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    ServiceUnavailableError,
    SpeechSenseError,
)
from tests.api.conftest import StartServer
from tests.api.support import abort, status_details

CALL = CallFacts("TalkService/Get", "service:443", "our-id", 60.0)
rpc = protos.rpc


@pytest.fixture
def refusal(start_server: StartServer) -> Any:
    """Return the gRPC error of a call that is refused as given."""

    def make(code: str, details: str = "", **headers: Any) -> grpc.RpcError:
        server = start_server({"TalkService/Get": abort(code, details, **headers)})
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(protos.METHODS["TalkService/Get"].path)(b"", timeout=20)
        return caught.value

    return make


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("UNAUTHENTICATED", AuthenticationError, False),
        ("PERMISSION_DENIED", PermissionDeniedError, False),
        ("NOT_FOUND", NotFoundError, False),
        ("RESOURCE_EXHAUSTED", QuotaExceededError, True),
        ("INVALID_ARGUMENT", InvalidRequestError, False),
        ("FAILED_PRECONDITION", InvalidRequestError, False),
        ("OUT_OF_RANGE", InvalidRequestError, False),
        ("ALREADY_EXISTS", InvalidRequestError, False),
        ("UNIMPLEMENTED", ConfigurationError, False),
        ("DEADLINE_EXCEEDED", DeadlineExceededError, True),
        ("UNAVAILABLE", ServiceUnavailableError, True),
        ("INTERNAL", ServiceUnavailableError, True),
        ("UNKNOWN", ServiceUnavailableError, True),
        ("ABORTED", ServiceUnavailableError, True),
        ("DATA_LOSS", ServiceUnavailableError, True),
        ("CANCELLED", ServiceUnavailableError, True),
    ],
)
def test_each_code_has_its_error_with_all_facts_and_a_remedy(
    refusal: Any, code: str, kind: type[SpeechSenseError], retryable: bool
) -> None:
    grpc_error = refusal(code, "the server's words", x_request_id="their-id")
    error = error_of(grpc_error, CALL)
    assert type(error) is kind
    assert error.retryable is retryable
    facts = (error.method, error.endpoint, error.code, error.request_id, error.server_request_id)
    assert facts == ("TalkService/Get", "service:443", code, "our-id", "their-id")
    assert error.hint
    if code != "DEADLINE_EXCEEDED":
        assert "the server's words" in str(error)
    assert failure_of(grpc_error) == Failure(code, "the server's words")


def test_a_status_without_words_has_a_text_all_the_same(refusal: Any) -> None:
    assert error_of(refusal("PERMISSION_DENIED"), CALL).message == (
        "SpeechSense denies access: a role or scope is missing"
    )


def test_a_deadline_names_its_length_and_the_setting(refusal: Any) -> None:
    text = str(error_of(refusal("DEADLINE_EXCEEDED"), CALL))
    assert "No answer within the deadline of 60 s." in text
    assert "rpc_timeout" in text


def test_an_oversize_message_is_not_a_spent_quota(refusal: Any) -> None:
    error = error_of(refusal("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)"), CALL)
    assert isinstance(error, MessageTooLargeError)
    assert not error.retryable


def test_what_the_service_found_wrong_is_listed(refusal: Any) -> None:
    bad = rpc.BadRequest(field_violations=[{"field": "metadata.fields.date", "description": "is no date"}])
    error = error_of(
        refusal("INVALID_ARGUMENT", "bad request", grpc_status_details_bin=status_details(bad)), CALL
    )
    assert isinstance(error, InvalidRequestError)
    assert error.violations == ("metadata.fields.date: is no date",)
    assert "bad request: metadata.fields.date: is no date" in str(error)


def test_the_services_own_id_and_pause_are_read_past_details_that_are_unknown(refusal: Any) -> None:
    packed = protos.rpc.Status()
    packed.details.add(type_url="type.googleapis.com/yandex.cloud.quota.QuotaFailure", value=b"\x0a\x00")
    packed.details.add().Pack(rpc.RequestInfo(request_id="their-id"))
    pause = rpc.RetryInfo()
    pause.retry_delay.FromMilliseconds(1500)
    packed.details.add().Pack(pause)
    grpc_error = refusal("RESOURCE_EXHAUSTED", grpc_status_details_bin=packed.SerializeToString())
    assert failure_of(grpc_error).retry_after == 1.5
    assert error_of(grpc_error, CALL).server_request_id == "their-id"


def test_broken_details_do_not_hide_the_error(refusal: Any) -> None:
    grpc_error = refusal("NOT_FOUND", "no such talk", grpc_status_details_bin=b"\xff\xff")
    error = error_of(grpc_error, CALL)
    assert isinstance(error, NotFoundError)
    assert error.server_request_id is None


def test_a_request_that_never_left_has_reached_nobody(refusal: Any) -> None:
    assert not failure_of(refusal("DEADLINE_EXCEEDED"), anything_sent=False).reached_service
