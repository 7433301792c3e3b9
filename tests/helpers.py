"""What the tests of the Airflow layer share: an emulator, a connection to it, and a task's context.

A folder's conftest.py takes the fixtures from here; tests that run without Airflow do not import this.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_speechsense.api import SpeechSenseClient
from airflow_provider_speechsense.emulator import Emulator, EmulatorSettings, ManualClock

DATA = Path(__file__).parents[1] / "example_dags" / "data"
CALL, METADATA = DATA / "call.wav", json.loads((DATA / "call.json").read_text())
BADGE, BADGE_METADATA = DATA / "badge.wav", json.loads((DATA / "badge.json").read_text())
CHAT = json.loads((DATA / "chat.json").read_text())

#: More than the emulator takes for anything, in seconds on its clock.
LONG = 60.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def emulator(clock: ManualClock) -> Iterator[Emulator]:
    """An emulator whose time stands still until a test moves it."""
    with Emulator(EmulatorSettings(clock=clock, get_quota=())) as running:
        yield running


@pytest.fixture
def our_time(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the waits of this package go by the emulator's clock, too."""
    start = time.time() - clock()
    modules = (
        "boundary",
        "operators._base",
        "operators.upload",
        "sensors.speechsense",
        "triggers.speechsense",
    )
    for name in modules:
        only_time = SimpleNamespace(time=lambda: start + clock())
        monkeypatch.setattr(f"airflow_provider_speechsense.{name}.time", only_time)


Connect = Callable[..., None]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> Connect:
    """Point the default connection at the emulator, with changes to its fields or to its extra."""

    def set_connection(*, extra: dict[str, Any] | None = None, **changes: Any) -> None:
        connection = {
            "conn_type": "speechsense",
            "host": "127.0.0.1",
            "port": emulator.port,
            "password": emulator.api_key,
            **changes,
            "extra": {"tls": False, "connection_id": "c1", "rpc_timeout": 20, **(extra or {})},
        }
        monkeypatch.setenv("AIRFLOW_CONN_SPEECHSENSE_DEFAULT", json.dumps(connection))

    set_connection()
    return set_connection


@pytest.fixture
def instant_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients not pause between the attempts of a call."""
    defaults: Any = SpeechSenseClient.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "sleep", lambda seconds: None)


@dataclass
class TaskInstance:
    """As much of a task instance as this package may rely on."""

    start_date: datetime | None = None
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = as_xcom(value)


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance()}


def as_xcom(value: Any) -> Any:
    """Return what a later task reads; fail on what some database does not take."""
    text = json.dumps(value, allow_nan=False)
    assert "\\u0000" not in text, "PostgreSQL refuses NUL in JSON"
    read = json.loads(text)
    assert read == value, "more than plain JSON"
    return read
