"""What every call goes through: access, scripted faults, request ids, status details, its record."""

from __future__ import annotations

import functools
import logging
import math
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator.access import admit, redact
from airflow_provider_speechsense.emulator.faults import Fault, Script
from airflow_provider_speechsense.emulator.refusal import Refusal
from airflow_provider_speechsense.emulator.settings import Access, EmulatorSettings

log = logging.getLogger("airflow_provider_speechsense.emulator")

#: A field number that no message has: parsers keep what they do not know, so padding harms nothing.
_PADDING_FIELD = 100_000
#: A stream that is cut off may look like one that ended well, until news of the cut comes just after.
_CUT_OFF_SECONDS = 0.02


@dataclass(frozen=True)
class CallRecord:
    """What was asked and answered.

    :param method: ``TalkService/Get``
    :param code: name of the status that was sent; ``CANCELLED`` if the client had gone by then
    :param request: the message of a unary call, audio bytes taken out; None for streams
    :param messages: how many came
    :param bytes: their size together
    :param metadata: the headers, of ``authorization`` only the scheme
    :param deadline_seconds: how long the client was going to wait; None is for ever
    :param request_id: the ``x-request-id`` of the answer
    """

    method: str
    code: str
    details: str
    request: Any
    messages: int
    bytes: int
    metadata: Mapping[str, str]
    deadline_seconds: float | None
    request_id: str


class Call:
    """One call while it is served. Iterating over it gives the messages of its stream."""

    def __init__(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        self.method = method
        self.request_id = str(uuid.uuid4())
        self.headers = dict(context.invocation_metadata())
        self.deadline_seconds = context.time_remaining()
        self.streams = protos.METHODS[method].client_streaming
        self.request = None if self.streams else request
        self.messages = 0 if self.streams else 1
        self.bytes = 0 if self.streams else request.ByteSize()
        self.fault: Fault | None = None
        self._stream: Iterator[Any] = request if self.streams else iter(())
        self._gone = threading.Event()
        # Called when the client gives up, when its connection breaks, and when the server stops.
        if not context.add_callback(self._gone.set):
            self._gone.set()

    def __iter__(self) -> Iterator[Any]:
        for message in self._stream:
            self.messages += 1
            self.bytes += message.ByteSize()
            yield message
            if self.fault and self.fault.after_bytes and self.bytes >= self.fault.after_bytes:
                raise _refusal_of(self.fault)
        if self.is_gone_within(_CUT_OFF_SECONDS):
            raise grpc.RpcError("the stream was cut off")

    def is_gone_within(self, seconds: float) -> bool:
        """Wait for the client to leave, for ever if ``seconds`` is infinite, and tell whether it did."""
        return self._gone.wait(None if math.isinf(seconds) else seconds)

    def drain(self, limit: int) -> None:
        """Read on, and throw away, until ``limit`` bytes of the stream were read."""
        while self.bytes < limit and (message := next(self._stream, None)) is not None:
            self.messages += 1
            self.bytes += message.ByteSize()

    def record(self, code: str, details: str) -> CallRecord:
        """Return what is kept of it."""
        headers = {name: redact(name, value) for name, value in self.headers.items()}
        facts = (self.request, self.messages, self.bytes, headers, self.deadline_seconds, self.request_id)
        return CallRecord(self.method, code, details, *facts)


Behaviour = Callable[[Any, Call], Any]


class CallPipeline:
    """Wraps the services' methods into what grpcio serves.

    :param script: faults to come
    :param issued: tokens that were given out, beside those of the settings
    """

    def __init__(self, settings: EmulatorSettings, script: Script, issued: Mapping[str, Access]) -> None:
        self._settings = settings
        self._script = script
        self._issued = issued
        self.records: deque[CallRecord] = deque(maxlen=settings.keep_calls)
        self.in_flight: set[Call] = set()

    def handler(self, method: str, behaviour: Behaviour, needed: Access) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the handler of one method.

        :param needed: what the caller's key must allow
        """
        kind = protos.METHODS[method]
        serve = functools.partial(self._serve, method, behaviour, needed)
        wrap = (
            grpc.stream_unary_rpc_method_handler
            if kind.client_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return wrap(serve, request_deserializer=kind.request.FromString, response_serializer=_serialize)

    def _serve(
        self, method: str, behaviour: Behaviour, needed: Access, request: Any, context: grpc.ServicerContext
    ) -> Any:
        call = Call(method, request, context)
        self.in_flight.add(call)
        code, details = "UNKNOWN", ""
        try:
            answer = self._answer(call, behaviour, needed)
            context.send_initial_metadata(_ids(call))
            code = "OK"
            return answer
        except Refusal as refusal:
            code, details = refusal.code, refusal.text
            call.drain(self._settings.drain_refused_bytes)
            _abort(context, call, refusal)
        except grpc.RpcError:
            # Raised by the stream when the client cancels or its connection breaks.
            code = "CANCELLED"
            raise
        finally:
            self.in_flight.discard(call)
            self.records.append(call.record(code, details))
            log.info("%s %s %s (%s)", method, code, details, call.request_id)

    def _answer(self, call: Call, behaviour: Behaviour, needed: Access) -> Any:
        admit(_text(call.headers.get("authorization")), needed, self._settings, self._issued)
        fault = call.fault = self._script.for_call(call.method)
        if fault and fault.stall_seconds:
            call.is_gone_within(fault.stall_seconds)
        if fault and fault.code and not fault.answer_lost and not fault.after_bytes:
            raise _refusal_of(fault)
        answer = behaviour(call if call.streams else call.request, call)
        if fault and fault.answer_lost:
            raise _refusal_of(fault)
        return _padded(answer, fault.answer_bytes) if fault and fault.answer_bytes else answer


def _refusal_of(fault: Fault) -> Refusal:
    return Refusal(fault.code or "UNKNOWN", fault.details, fault.retry_after_seconds)


def _abort(context: grpc.ServicerContext, call: Call, refusal: Refusal) -> NoReturn:
    code = grpc.StatusCode[refusal.code]
    status = protos.rpc.Status(code=code.value[0], message=refusal.text)
    status.details.add().Pack(protos.rpc.RequestInfo(request_id=call.request_id))
    if refusal.retry_after_seconds is not None:
        retry_info = protos.rpc.RetryInfo()
        retry_info.retry_delay.FromNanoseconds(int(refusal.retry_after_seconds * 1e9))
        status.details.add().Pack(retry_info)
    context.set_trailing_metadata((*_ids(call), ("grpc-status-details-bin", status.SerializeToString())))
    context.abort(code, refusal.text)


def _ids(call: Call) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", call.request_id), ("x-server-trace-id", call.request_id.replace("-", "")))


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _serialize(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _padded(answer: Any, size: int) -> bytes:
    body: bytes = answer.SerializeToString()
    padding = bytes(max(size - len(body), 0))
    return body + _varint(_PADDING_FIELD << 3 | 2) + _varint(len(padding)) + padding


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*encoded, number))
