from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_speechsense.emulator import EmulatorSettings, ManualClock
from tests.emulator.support import Bench, Serve, serving


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start emulators with settings, on a clock that stands still."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Bench:
            clock = ManualClock()
            bench = contextlib.contextmanager(serving)(EmulatorSettings(clock=clock, **settings), clock)
            return stack.enter_context(bench)

        yield start


@pytest.fixture
def bench(serve: Serve) -> Bench:
    return serve()
