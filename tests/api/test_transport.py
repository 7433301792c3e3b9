"""Addresses and TLS. Every failure to connect says what is wrong with which setting, and sends nothing."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from airflow_provider_speechsense.api import ApiKey, NoCredentials, Tls
from airflow_provider_speechsense.api.transport import (
    DEFAULT_ENDPOINT,
    Channels,
    check_endpoint,
    is_loopback,
)
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    DeadlineExceededError,
    ServiceUnavailableError,
)
from tests.api.conftest import Connect, StartServer
from tests.api.support import Authority, Certificate, TinyServer, abort

SEARCH = {"TalkService/Search": abort("NOT_FOUND", "reached")}
#: Longer than any of these calls takes, shorter than anybody would wait for.
SOON = 20


def credentials_of(certificate: Certificate, client_ca: bytes | None = None) -> grpc.ServerCredentials:
    pair = (certificate.key, certificate.cert)
    return grpc.ssl_server_credentials([pair], client_ca, client_ca is not None)


@pytest.fixture
def tls_server(start_server: StartServer, authority: Authority) -> TinyServer:
    return start_server(SEARCH, credentials_of(authority.issue("localhost")))


@contextmanager
def listening(answer: bytes | None = None) -> Iterator[str]:
    """Listen on a port; without ``answer`` in silence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def by_name(server: TinyServer) -> str:
    return server.address.replace("127.0.0.1", "localhost")


def why_not(connect: Connect, endpoint: str, **settings: Any) -> ConfigurationError:
    """Return the configuration error of a call that must not get through, nor be tried twice."""
    pauses: list[float] = []
    client = connect(endpoint, **{"credentials": ApiKey("k"), "sleep": pauses.append, **settings})
    with pytest.raises(ConfigurationError) as caught:
        client.count()
    assert pauses == []
    assert not caught.value.retryable
    return caught.value


# --- addresses


@pytest.mark.parametrize("endpoint", [DEFAULT_ENDPOINT, " host:9000 ", "10.0.0.1:443", "[::1]:9000"])
def test_an_address_is_host_and_port(endpoint: str) -> None:
    assert check_endpoint(endpoint) == endpoint.strip()


@pytest.mark.parametrize(
    "endpoint",
    ["host", "https://host:443", "host:0", "host:65536", "host:443/v1", "user@host:443", "::1:9000", ""],
)
def test_anything_else_is_refused_with_an_example(endpoint: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"search_endpoint: '{endpoint}' is not.*such as {DEFAULT_ENDPOINT}"
    ):
        check_endpoint(endpoint, "search_endpoint")


@pytest.mark.parametrize(
    ("endpoint", "here"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("[::1]:1", True),
        ("localhost.example:1", False),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("127.0.0.1.example:1", False),
    ],
)
def test_this_machine_is_told_without_asking_a_name_server(endpoint: str, here: bool) -> None:
    assert is_loopback(endpoint) is here


# --- plain text


def test_a_secret_is_never_sent_in_plain_text_to_another_host(connect: Connect) -> None:
    error = why_not(connect, "speech.example:9000")
    assert "would send the secret readably to speech.example:9000; nothing was sent" in str(error)
    assert "switch tls on" in str(error)
    assert error.method is None


def test_an_upload_that_would_give_the_secret_away_is_refused_too(connect: Connect) -> None:
    from tests.api.support import METADATA, WAV

    client = connect("speech.example:9000", credentials=ApiKey("k"))
    for upload in (client.upload, client.upload_stream):
        with pytest.raises(ConfigurationError, match="readably"):
            upload(WAV, METADATA)


def test_without_a_secret_plain_text_may_go_anywhere() -> None:
    channels = Channels(None, has_secret=False)
    assert channels.get("speech.example:9000")
    channels.close()


# --- TLS


def test_the_systems_roots_do_not_trust_a_private_authority(connect: Connect, tls_server: TinyServer) -> None:
    error = why_not(connect, by_name(tls_server), tls=Tls())
    assert str(error).startswith("The server's certificate is not trusted: ")
    assert "ca_cert" in str(error)
    assert tls_server.calls == []


def test_a_private_authority_is_trusted_if_given(
    connect: Connect, tls_server: TinyServer, authority: Authority
) -> None:
    client = connect(by_name(tls_server), tls=Tls(ca_cert=authority.cert), credentials=ApiKey("k"))
    with pytest.raises(Exception, match="reached"):
        client.count()
    assert tls_server.calls[0].headers["authorization"] == "Api-Key k"


def test_another_authority_is_not_trusted_in_its_place(connect: Connect, tls_server: TinyServer) -> None:
    error = why_not(connect, by_name(tls_server), tls=Tls(ca_cert=Authority().cert))
    assert "not trusted" in str(error)


def test_a_certificate_for_another_name_is_refused(
    connect: Connect, start_server: StartServer, authority: Authority
) -> None:
    server = start_server(SEARCH, credentials_of(authority.issue("elsewhere.example")))
    error = why_not(connect, by_name(server), tls=Tls(ca_cert=authority.cert))
    assert "certificate is made for another host name" in str(error)
    assert server.calls == []


def test_mutual_tls_shows_the_clients_certificate(
    connect: Connect, start_server: StartServer, authority: Authority
) -> None:
    server = start_server(SEARCH, credentials_of(authority.issue("localhost"), client_ca=authority.cert))
    own = authority.issue()
    with_own = Tls(ca_cert=authority.cert, client_cert=own.cert, client_private_key=own.key)
    with pytest.raises(Exception, match="reached"):
        connect(by_name(server), tls=with_own).count()

    without = connect(by_name(server), tls=Tls(ca_cert=authority.cert))
    with pytest.raises(ServiceUnavailableError, match="whether the server asks for a client certificate"):
        without.count()
    assert len(server.calls) == 1


def test_tls_to_a_plain_text_port_is_told(connect: Connect, start_server: StartServer) -> None:
    server = start_server(SEARCH)
    error = why_not(connect, server.address, tls=Tls())
    assert "does not speak TLS on this port" in str(error)
    assert "set tls to false" in str(error)
    assert server.calls == []


def test_plain_text_to_a_tls_port_does_not_connect(connect: Connect, tls_server: TinyServer) -> None:
    with pytest.raises(ServiceUnavailableError, match=r"No connection to .*check host, port and tls"):
        connect(tls_server).count()
    assert tls_server.calls == []


@pytest.mark.parametrize("broken", ["ca_cert", "client_cert", "client_private_key"])
def test_what_is_no_pem_is_refused_by_its_fields_name(authority: Authority, broken: str) -> None:
    own = authority.issue()
    parts = {"ca_cert": authority.cert, "client_cert": own.cert, "client_private_key": own.key}
    with pytest.raises(ConfigurationError, match=f"{broken} holds no PEM text"):
        Tls(**{**parts, broken: b"/etc/ssl/ca.pem"})


@pytest.mark.parametrize("alone", ["client_cert", "client_private_key"])
def test_a_client_certificate_and_its_key_go_together(authority: Authority, alone: str) -> None:
    own = authority.issue()
    parts = {"client_cert": own.cert, "client_private_key": own.key}
    with pytest.raises(ConfigurationError, match="go together"):
        Tls(**{alone: parts[alone]})


def test_a_broken_pem_is_told_when_it_is_used(connect: Connect, tls_server: TinyServer) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    error = why_not(connect, by_name(tls_server), tls=Tls(ca_cert=broken))
    assert "The certificates of the connection cannot be used" in str(error)


def test_a_private_key_is_not_in_the_text_of_its_object(authority: Authority) -> None:
    own = authority.issue()
    assert "PRIVATE KEY" not in repr(Tls(client_cert=own.cert, client_private_key=own.key))


# --- hosts that are not there, or are something else


def test_a_host_that_refuses_is_unavailable_and_tried_again(connect: Connect, pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(
        ServiceUnavailableError, match=f"No connection to {endpoint}.*check host, port"
    ) as caught:
        connect(endpoint).count()
    assert caught.value.code == "UNAVAILABLE"
    assert len(pauses) == 4


def test_a_name_that_nobody_knows_is_unavailable(connect: Connect) -> None:
    client = connect("no-such-host.invalid:443", tls=Tls(), rpc_timeout=SOON)
    with pytest.raises(ServiceUnavailableError, match=r"No connection to no-such-host\.invalid:443"):
        client.count()


def test_a_host_that_is_silent_runs_into_the_deadline(connect: Connect) -> None:
    from airflow_provider_speechsense.api.retry import ONE_ATTEMPT

    with listening() as endpoint:
        client = connect(endpoint, rpc_timeout=0.3, retry=ONE_ATTEMPT)
        with pytest.raises(
            DeadlineExceededError, match=r"No answer within the deadline of 0.3 s.*host and port"
        ):
            client.count()


def test_a_web_server_is_told_from_a_grpc_one(connect: Connect) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        error = why_not(connect, f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert "Hybrid on 9000" in str(error)


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    connect: Connect, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    server = start_server(SEARCH)
    with pytest.raises(Exception, match="reached"):
        connect(server).count()


# --- channels


def test_a_channel_is_made_once_for_each_address_and_process(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = Channels(None, has_secret=False)
    first = channels.get("localhost:1")
    assert channels.get("localhost:1") is first
    assert channels.get("localhost:2") is not first
    monkeypatch.setattr(os, "getpid", lambda: -1)
    forked = channels.get("localhost:1")
    assert forked is not first
    channels.close()
    with pytest.raises(ValueError, match="closed"):
        forked.unary_unary("/a/b")(b"")
    # What was made before the fork belongs to the parent.
    assert isinstance(first.unary_unary("/a/b").future(b"", timeout=0.01), grpc.Future)
    first.close()


def test_what_is_closed_stays_closed(connect: Connect, start_server: StartServer) -> None:
    server = start_server(SEARCH)
    client = connect(server)
    client.close()
    client.close()
    with pytest.raises(ConfigurationError, match=r"This client is closed.*inside its with block"):
        client.count()
    assert server.calls == []


def test_no_credentials_are_no_secret() -> None:
    assert not NoCredentials().has_secret()
