"""What the tests of api/ share: recordings, metadata, certificates, a server that does as told."""

from __future__ import annotations

import datetime
import io
import ipaddress
import wave
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from airflow_provider_speechsense.api import protos

#: Complete for a call between two people, so that nothing is warned of.
METADATA: Mapping[str, Any] = {
    "operator_name": "Anna",
    "operator_id": "1001",
    "client_name": "Boris",
    "client_id": "2002",
    "date": "2025-04-24T14:34:19Z",
    "direction_outgoing": True,
    "language": "ru-RU",
}
CHAT_METADATA: Mapping[str, Any] = {**METADATA, "bot_name": "Helper", "bot_id": "3003"}
CHAT = [
    {"user_id": "2002", "timestamp": "2025-04-24T14:34:19.100Z", "text": "where is my parcel?"},
    {"user_id": "3003", "timestamp": "2025-04-24T14:34:23Z", "text": "one moment please"},
]


def wav(seconds: float = 0.5, channels: int = 1) -> bytes:
    """Return a recording of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(bytes(int(seconds * 8000) * 2 * channels))
    return file.getvalue()


WAV = wav()


@dataclass
class BrokenSource:
    """A source that gives ``data``, and then fails or ends."""

    data: bytes
    size: int
    error: Exception | None = None
    name: str = "s3://calls/1.wav"
    opened: int = 0

    def open(self) -> Any:
        self.opened += 1
        return _Breaking(self.data, self.error)


class _Breaking(io.BytesIO):
    def __init__(self, data: bytes, error: Exception | None) -> None:
        super().__init__(data)
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        if not part and self._error:
            raise self._error
        return part


# --- a server whose answers a test writes

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


@dataclass
class Seen:
    """A call as it reached the server."""

    method: str
    request: Any
    headers: Mapping[str, Any]
    seconds_left: float | None


@dataclass
class TinyServer:
    """Serves the methods it is given on a free port of loopback, and remembers the calls.

    :param behaviours: by ``Service/Method``; a stream's request is its iterator
    """

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    calls: list[Seen] = field(default_factory=list)
    address: str = ""

    def handlers(self) -> Iterator[grpc.GenericRpcHandler]:
        for name, behave in self.behaviours.items():
            method = protos.METHODS[name]
            make = (
                grpc.stream_unary_rpc_method_handler
                if method.client_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            handler = make(
                self._remembering(name, behave),
                request_deserializer=method.request.FromString,
                response_serializer=method.response.SerializeToString,
            )
            _, service, rpc = method.path.split("/")
            yield grpc.method_handlers_generic_handler(service, {rpc: handler})

    def _remembering(self, name: str, behave: Behaviour) -> Behaviour:
        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            headers = dict(context.invocation_metadata())
            self.calls.append(Seen(name, request, headers, context.time_remaining()))
            return behave(request, context)

        return serve


@contextmanager
def serving(
    behaviours: Mapping[str, Behaviour], credentials: grpc.ServerCredentials | None = None
) -> Iterator[TinyServer]:
    tiny = TinyServer(dict(behaviours))
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers(list(tiny.handlers()))
    if credentials:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    tiny.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield tiny
    finally:
        server.stop(0).wait()


def abort(code: str, details: str = "", **headers: Any) -> Behaviour:
    """Return a behaviour that refuses; ``_`` in a header's name stands for ``-``."""

    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata([(name.replace("_", "-"), value) for name, value in headers.items()])
        context.abort(grpc.StatusCode[code], details)

    return refuse


def status_details(*details: Any) -> bytes:
    """Return what the header ``grpc-status-details-bin`` carries."""
    status = protos.rpc.Status()
    for detail in details:
        status.details.add().Pack(detail)
    return bytes(status.SerializeToString())


# --- certificates


@dataclass(frozen=True)
class Certificate:
    cert: bytes
    key: bytes

    def files(self, folder: Path) -> tuple[Path, Path]:
        """Write certificate and key, and return their paths."""
        paths = folder / "cert.pem", folder / "key.pem"
        for path, pem in zip(paths, (self.cert, self.key), strict=True):
            path.write_bytes(pem)
        return paths


class Authority:
    """A certificate authority of a company's own."""

    def __init__(self) -> None:
        self._key, self._cert = self._make("Test CA", None, ())
        self.cert = _pem(self._cert)

    def issue(self, *names: str) -> Certificate:
        """Return a certificate for host names and addresses."""
        from cryptography.hazmat.primitives import serialization

        key, cert = self._make("leaf", self, names)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Certificate(_pem(cert), pem)

    @staticmethod
    def _make(title: str, issuer: Authority | None, names: tuple[str, ...]) -> tuple[Any, Any]:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, title)])
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer._cert.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        if names:
            alternatives = [
                x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return key, builder.sign(issuer._key if issuer else key, hashes.SHA256())


def _pem(cert: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return bytes(cert.public_bytes(serialization.Encoding.PEM))
