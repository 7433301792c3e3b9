"""What a gRPC status means: as facts for the retry rules, and as an error for the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.redaction import redact
from airflow_provider_speechsense.api.retry import Failure, is_oversize
from airflow_provider_speechsense.exceptions import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    Facts,
    InvalidRequestError,
    MessageTooLargeError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    ServiceUnavailableError,
    SpeechSenseError,
)

#: gRPC status names by the numbers that ``google.rpc.Status`` carries.
CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}

#: How the text begins when no connection came about: nothing can have been accepted. gRPC words things its
#: own way in each release; these texts, here and below, are those of 1.66 to 1.85.
_NOT_CONNECTED = (
    "failed to connect to all addresses",
    "errors resolving",
    "dns resolution failed",
    "empty address list",
)


class _Fault(NamedTuple):
    """A connection that cannot come about, however often it is tried, and the texts that tell it."""

    signs: tuple[str, ...]
    message: str
    hint: str


_CONNECTION_FAULTS = (
    _Fault(
        # The last two are of an authority that was made anew under its old name.
        ("certificate_verify_failed", "certificate signature failure", "bad_signature"),
        "The server's certificate is not trusted",
        "give the certificate of your CA as ca_cert, and see that neither certificate has expired.",
    ),
    _Fault(
        ("hostname verification check failed", "is not in peer certificate"),
        "The server's certificate is made for another host name",
        "use the host name that the certificate is made for.",
    ),
    _Fault(
        ("wrong_version_number",),
        "The server does not speak TLS on this port",
        "check the port; or set tls to false, if the server is meant to speak plain text.",
    ),
    _Fault(
        ("failed to create security handshaker", "empty address list"),
        "The certificates of the connection cannot be used",
        "see that ca_cert and client_cert are whole, and that client_private_key belongs to client_cert.",
    ),
    _Fault(
        ("failed parsing http/2", "http1.x server", "missing selected alpn"),
        "The server does not speak gRPC on this port",
        "check host and port: the cloud serves gRPC on 443, Hybrid on 9000; the REST address is another.",
    ),
)


class _Meaning(NamedTuple):
    kind: type[SpeechSenseError]
    message: str
    hint: str | None = None


_SUPPORT = "try again later; if it stays, send the vendor's support the request id."
_REFUSED = _Meaning(InvalidRequestError, "SpeechSense refused the request")
_FAILED = _Meaning(ServiceUnavailableError, "SpeechSense failed", _SUPPORT)
_MEANINGS = {
    "UNAUTHENTICATED": _Meaning(AuthenticationError, "SpeechSense does not accept the credentials"),
    "PERMISSION_DENIED": _Meaning(
        PermissionDeniedError, "SpeechSense denies access: a role or scope is missing"
    ),
    "NOT_FOUND": _Meaning(NotFoundError, "SpeechSense does not know what was asked for"),
    "RESOURCE_EXHAUSTED": _Meaning(QuotaExceededError, "The quota is spent"),
    "INVALID_ARGUMENT": _REFUSED,
    "FAILED_PRECONDITION": _REFUSED,
    "OUT_OF_RANGE": _REFUSED,
    "ALREADY_EXISTS": _REFUSED,
    "UNIMPLEMENTED": _Meaning(
        ConfigurationError,
        "The server does not have this method",
        "check host and port; an older SpeechSense Hybrid lacks newer methods.",
    ),
    "UNAVAILABLE": _Meaning(ServiceUnavailableError, "SpeechSense is not available"),
    "CANCELLED": _Meaning(ServiceUnavailableError, "The call was cancelled", _SUPPORT),
}


@dataclass(frozen=True)
class CallFacts:
    """One attempt of one call, for the errors it may end in."""

    method: str
    endpoint: str
    request_id: str
    timeout: float


def failure_of(error: grpc.RpcError, *, anything_sent: bool = True, unfinished: bool = False) -> Failure:
    """Return the facts of a failed attempt that decide what to do next.

    :param anything_sent: False if it is known that none of the request left
    :param unfinished: True if it is known that the end of the request did not leave
    """
    # Servers quote what they refuse.
    details = redact(error.details() or "")
    connected = not details.lower().startswith(_NOT_CONNECTED)
    retry_info = _details(error).get("RetryInfo")
    return Failure(
        code=error.code().name,
        details=details,
        reached_service=anything_sent and connected,
        unfinished=unfinished,
        hopeless=not connected and _fault(details) is not None,
        retry_after=retry_info.retry_delay.ToTimedelta().total_seconds() if retry_info else None,
    )


def error_of(error: grpc.RpcError, call: CallFacts) -> SpeechSenseError:
    """Return the error to raise for a failed call, with everything that helps to mend it."""
    failure = failure_of(error)
    facts = Facts(
        method=call.method,
        endpoint=call.endpoint,
        code=failure.code,
        request_id=call.request_id,
        server_request_id=_server_request_id(error),
    )
    if is_oversize(failure):
        return MessageTooLargeError(f"A message is over the limit: {failure.details}", **facts)
    if not failure.reached_service:
        return _not_connected(call.endpoint, failure.details, facts)
    if failure.code == "DEADLINE_EXCEEDED":
        facts["hint"] = (
            "check host and port, and try again; or raise rpc_timeout in the connection, for uploads the "
            "operator's upload_timeout."
        )
        return DeadlineExceededError(f"No answer within the deadline of {call.timeout:g} s.", **facts)
    meaning = _MEANINGS.get(failure.code, _FAILED)
    facts["hint"] = meaning.hint
    violations = _violations(error)
    text = ": ".join(part for part in (meaning.message, failure.details, "; ".join(violations)) if part)
    if meaning is _REFUSED:
        return InvalidRequestError(text, violations=violations, **facts)
    return meaning.kind(text, **facts)


def _not_connected(endpoint: str, details: str, facts: Facts) -> SpeechSenseError:
    fault = _fault(details)
    if fault:
        facts["hint"] = fault.hint
        return ConfigurationError(f"{fault.message}: {details}", **facts)
    facts["hint"] = (
        "check host, port and tls of the connection, whether the server asks for a client certificate, "
        "and the network between."
    )
    return ServiceUnavailableError(f"No connection to {endpoint}: {details}", **facts)


def _fault(details: str) -> _Fault | None:
    lower = details.lower()
    return next((fault for fault in _CONNECTION_FAULTS if any(sign in lower for sign in fault.signs)), None)


def _headers(error: Any) -> dict[str, Any]:
    pairs = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    return {str(key): value for key, value in pairs}


def _details(error: grpc.RpcError) -> dict[str, Any]:
    """Return the status details by the short names of their types, the first of each."""
    found: dict[str, Any] = {}
    try:
        status = protos.rpc.Status.FromString(_headers(error).get("grpc-status-details-bin", b""))
    except Exception:
        # What a broken server adds to an error must not hide the error.
        return found
    for detail in status.details:
        try:
            message = protos.message_class(detail.TypeName())()
            detail.Unpack(message)
        except Exception:  # noqa: S112 - a kind of detail that this release does not know, or a broken one
            continue
        found.setdefault(message.DESCRIPTOR.name, message)
    return found


def _violations(error: grpc.RpcError) -> tuple[str, ...]:
    request = _details(error).get("BadRequest")
    return tuple(f"{v.field}: {v.description}" for v in request.field_violations) if request else ()


def _server_request_id(error: grpc.RpcError) -> str | None:
    info = _details(error).get("RequestInfo")
    value = info.request_id if info else None
    return value or _headers(error).get("x-request-id")
