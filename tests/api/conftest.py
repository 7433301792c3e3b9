from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from airflow_provider_speechsense.api import ApiKey, ClientSettings, NoCredentials, SpeechSenseClient
from airflow_provider_speechsense.emulator import Emulator, EmulatorSettings, ManualClock
from tests.api.support import Authority, Behaviour, TinyServer, serving

Connect = Callable[..., SpeechSenseClient]
StartEmulator = Callable[..., Emulator]
StartServer = Callable[..., TinyServer]


@pytest.fixture
def open_until_the_end() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def pauses() -> list[float]:
    """The seconds that clients would have slept."""
    return []


@pytest.fixture
def connect(open_until_the_end: ExitStack, pauses: list[float]) -> Connect:
    """Make clients of a plain-text server; nothing they do sleeps."""

    def make(server: Emulator | TinyServer | str, **settings: Any) -> SpeechSenseClient:
        sleep = settings.pop("sleep", pauses.append)
        if isinstance(server, Emulator):
            settings = {"credentials": ApiKey(server.api_key), **settings}
        settings = {
            "endpoint": server if isinstance(server, str) else server.address,
            "credentials": NoCredentials(),
            "tls": None,
            "scope": {"connection_id": "c1", "space_id": "s1"},
            "rpc_timeout": 20,
            **settings,
        }
        return open_until_the_end.enter_context(SpeechSenseClient(ClientSettings(**settings), sleep=sleep))

    return make


@pytest.fixture
def start_emulator(open_until_the_end: ExitStack) -> StartEmulator:
    """Start emulators on a clock that stands still."""

    def start(**settings: Any) -> Emulator:
        return open_until_the_end.enter_context(
            Emulator(EmulatorSettings(**{"clock": ManualClock(), **settings}))
        )

    return start


@pytest.fixture
def start_server(open_until_the_end: ExitStack) -> StartServer:
    """Start servers that do what a test says, by ``Service/Method``."""

    def start(
        behaviours: Mapping[str, Behaviour], credentials: grpc.ServerCredentials | None = None
    ) -> TinyServer:
        return open_until_the_end.enter_context(serving(behaviours, credentials))

    return start


@pytest.fixture
def emulator(start_emulator: StartEmulator) -> Emulator:
    return start_emulator()


@pytest.fixture
def client(connect: Connect, emulator: Emulator) -> SpeechSenseClient:
    return connect(emulator)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()
