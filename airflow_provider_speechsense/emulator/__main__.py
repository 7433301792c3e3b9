"""The emulator as a process of its own: ``python -m airflow_provider_speechsense.emulator --port 9000``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_provider_speechsense.emulator.calls import log
from airflow_provider_speechsense.emulator.connections import parse_connections
from airflow_provider_speechsense.emulator.faults import Fault
from airflow_provider_speechsense.emulator.server import Emulator
from airflow_provider_speechsense.emulator.settings import DEFAULT_API_KEY, Access, EmulatorSettings

#: Of the time that --processing-seconds gives, a talk spends so much waiting.
_QUEUE_SHARE = 0.1
_ENDINGS = frozenset({signal.SIGINT, signal.SIGTERM})


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    :param arguments: default those of the process
    :return: exit code
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.log_calls:
        logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
        log.setLevel(logging.INFO)
    # Waited for instead of handled: a handler may run while the lock that it needs is held. Before any thread
    # is there, because each inherits what is blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        emulator = Emulator(_settings(given))
        emulator.script(*given.fault)
        emulator.start()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        address = emulator.address
        if given.cut_after is not None:
            relay = emulator.relay()
            relay.cut_after(given.cut_after)
            address = relay.address
        if given.port_file:
            _write_whole(given.port_file, address.rpartition(":")[2])
        print(_banner(emulator, address), flush=True)
        signal.sigwait(_ENDINGS)
    finally:
        emulator.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="speechsense-emulator", description="A gRPC server that speaks the API of Yandex SpeechSense."
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=9000, help="0 picks a free one (default: %(default)s)")
    add("--port-file", type=Path, metavar="PATH", help="write the port there when ready")
    add(
        "--api-key",
        action="append",
        metavar="KEY",
        help=f"accept it; repeatable (default: {DEFAULT_API_KEY})",
    )
    add("--token", action="append", default=[], help="accept this bearer token; repeatable")
    add("--no-security", action="store_true", help="accept any or no credentials")
    add("--tls-cert", metavar="PEM", help="certificate; with --tls-key, speak TLS")
    add("--tls-key", metavar="PEM", help="private key of the certificate")
    add("--client-ca", metavar="PEM", help="require client certificates of this CA")
    add("--processing-seconds", type=float, default=2.0, metavar="S", help="analysis of a talk (default: 2)")
    add("--badge-seconds", type=float, default=2.0, metavar="S", help="cutting of a badge (default: 2)")
    add("--connections", type=Path, metavar="JSON", help="file of connections to enforce, by id")
    add("--classifiers", type=Path, metavar="JSON", help="file of tags: lists of words by name")
    add("--no-quota", action="store_true", help="no quota on getting talks")
    add("--quota-unit", choices=("request", "dialog"), default="request", help="what the quota counts")
    add(
        "--fault",
        action="append",
        default=[],
        type=_fault,
        metavar="METHOD:CODE[:COUNT]",
        help="fail COUNT calls (default 1), such as TalkService/Get:UNAVAILABLE:2; repeatable",
    )
    add("--cut-after", type=int, metavar="BYTES", help="break one connection after receiving so much")
    add("--log-calls", action="store_true", help="a line on stderr for each call")
    return parser


def _fault(text: str) -> Fault:
    method, _, rest = text.partition(":")
    code, _, count = rest.partition(":")
    try:
        return Fault(method=method, code=code, count=int(count or 1))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _settings(given: argparse.Namespace) -> EmulatorSettings:
    some: dict[str, Any] = {"get_quota": ()} if given.no_quota else {}
    return EmulatorSettings(
        host=given.host,
        port=given.port,
        tls_cert=given.tls_cert,
        tls_key=given.tls_key,
        client_ca=given.client_ca,
        security_enabled=not given.no_security,
        api_keys=dict.fromkeys(given.api_key or [DEFAULT_API_KEY], Access.FULL),
        tokens=dict.fromkeys(given.token, Access.FULL),
        queue_seconds=given.processing_seconds * _QUEUE_SHARE,
        processing_seconds=given.processing_seconds * (1 - _QUEUE_SHARE),
        badge_seconds=given.badge_seconds,
        connections=parse_connections(_read_json(given.connections)),
        classifiers=_read_json(given.classifiers),
        quota_unit=given.quota_unit,
        **some,
    )


def _read_json(path: Path | None) -> Any:
    if path is None:
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _write_whole(path: Path, text: str) -> None:
    # Who waits for the file must not read half of it.
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _banner(emulator: Emulator, address: str) -> str:
    settings = emulator.settings
    wire = (
        "plain text" if settings.tls_cert is None else "TLS" if settings.client_ca is None else "mutual TLS"
    )
    if not settings.security_enabled:
        access = "no credentials needed"
    elif DEFAULT_API_KEY in settings.api_keys:
        access = f"API key {DEFAULT_API_KEY}"
    else:
        access = "the API keys it was given"
    return f"SpeechSense emulator on {address}, {wire}, {access}"


if __name__ == "__main__":
    sys.exit(main())
