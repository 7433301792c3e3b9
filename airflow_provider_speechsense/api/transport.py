"""Addresses, TLS and channels.

Channels are made late, in the process that uses them: gRPC does not survive a fork.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from threading import RLock

import grpc

from airflow_provider_speechsense import __version__
from airflow_provider_speechsense.exceptions import ConfigurationError

DEFAULT_ENDPOINT = "api.speechsense.yandexcloud.net:443"
#: The service's own limit for one message, in bytes, for requests and answers alike.
MAX_MESSAGE_BYTES = 134_217_728

_OPTIONS = (
    # gRPC's default is to refuse answers over 4 MiB; a hundred talks are more.
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Notices a dead peer during a long call. Below five minutes servers answer "too many pings".
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Retries are made above gRPC, where an upload can be told from a repeatable call.
    ("grpc.enable_retries", 0),
    # After an outage gRPC would let up to two minutes pass before it tries to connect again.
    ("grpc.max_reconnect_backoff_ms", 30_000),
    ("grpc.primary_user_agent", f"airflow-provider-speechsense/{__version__}"),
)

_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Tls:
    """How to encrypt; all parts are PEM.

    :param ca_cert: certificates to trust instead of the system's
    :param client_cert: certificate chain to present, with ``client_private_key``
    """

    ca_cert: bytes | None = None
    client_cert: bytes | None = None
    client_private_key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("ca_cert", "client_cert", "client_private_key"):
            pem = getattr(self, name)
            if pem is not None and b"-----BEGIN " not in pem:
                raise ConfigurationError(f"{name} holds no PEM text.", hint="it begins with -----BEGIN.")
        if (self.client_cert is None) != (self.client_private_key is None):
            raise ConfigurationError(
                "client_cert and client_private_key go together, and one of them is missing.",
                hint="give both for mutual TLS, or neither.",
            )


def check_endpoint(endpoint: str, field_name: str = "host") -> str:
    """Return ``host:port`` if it is that.

    :raises ConfigurationError: it is not
    """
    match = _HOST_PORT.fullmatch(endpoint.strip())
    if not match or not 0 < int(match["port"]) < 65536:
        raise ConfigurationError(
            f"{field_name}: {endpoint!r} is not host:port.",
            hint=f"give it without a scheme or path, such as {DEFAULT_ENDPOINT}.",
        )
    return match[0]


def is_loopback(endpoint: str) -> bool:
    """Tell whether ``host:port`` is this machine, without asking a name server."""
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Channels:
    """The channels of one client, one for each address, each made when first asked for.

    :param tls: None for plain text
    :param has_secret: whether calls carry a secret, which plain text must not take to another host
    """

    def __init__(self, tls: Tls | None, *, has_secret: bool) -> None:
        self._tls = tls
        self._has_secret = has_secret
        # Reentrant: a signal's handler may close what the same thread is about to use.
        self._lock = RLock()
        self._open: dict[tuple[int, str], grpc.Channel] = {}
        self._closed = False

    def get(self, endpoint: str) -> grpc.Channel:
        """Return the channel to ``host:port``; nothing is sent yet.

        :raises ConfigurationError: a secret would go to another host in plain text, or all was closed
        """
        if self._tls is None and self._has_secret and not is_loopback(endpoint):
            raise ConfigurationError(
                f"Plain text (tls: false) would send the secret readably to {endpoint}; nothing was sent.",
                hint="switch tls on, with ca_cert for a private CA; or set auth_type to none, "
                "if the server's security is off.",
            )
        with self._lock:
            if self._closed:
                raise ConfigurationError(
                    "This client is closed.",
                    hint="use it inside its with block; what search and get return is fetched as it is read.",
                )
            # By process: a channel that crossed a fork hangs.
            key = (os.getpid(), endpoint)
            channel = self._open.get(key)
            if channel is None:
                channel = self._open[key] = self._connect(endpoint)
            return channel

    def close(self) -> None:
        """Close all; calls under way end as cancelled."""
        with self._lock:
            self._closed = True
            mine = [channel for (pid, _), channel in self._open.items() if pid == os.getpid()]
            self._open.clear()
        for channel in mine:
            channel.close()

    def _connect(self, endpoint: str) -> grpc.Channel:
        # gRPC takes a proxy from the environment even for this machine, and with it a secret in plain text.
        options = (*_OPTIONS, ("grpc.enable_http_proxy", 0)) if is_loopback(endpoint) else _OPTIONS
        if self._tls is None:
            return grpc.insecure_channel(endpoint, options=options)
        credentials = grpc.ssl_channel_credentials(
            root_certificates=self._tls.ca_cert,
            private_key=self._tls.client_private_key,
            certificate_chain=self._tls.client_cert,
        )
        return grpc.secure_channel(endpoint, credentials, options=options)
