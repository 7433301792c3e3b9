"""A SpeechSense of one's own: a gRPC server that speaks the same API, for tests and first tries.

``with Emulator() as emulator:`` serves at ``emulator.address``; ``python -m
airflow_provider_speechsense.emulator --port 9000`` does so from a shell.
"""

from __future__ import annotations

from airflow_provider_speechsense.emulator.calls import CallRecord
from airflow_provider_speechsense.emulator.clock import ManualClock
from airflow_provider_speechsense.emulator.connections import Connection, ConnectionType, FieldType, Key
from airflow_provider_speechsense.emulator.faults import BadgeFault, Fault, TalkFault
from airflow_provider_speechsense.emulator.relay import Relay
from airflow_provider_speechsense.emulator.server import Emulator
from airflow_provider_speechsense.emulator.settings import Access, EmulatorSettings
from airflow_provider_speechsense.emulator.store import ChatMessage, StoredTalk

__all__ = [
    "Access",
    "BadgeFault",
    "CallRecord",
    "ChatMessage",
    "Connection",
    "ConnectionType",
    "Emulator",
    "EmulatorSettings",
    "Fault",
    "FieldType",
    "Key",
    "ManualClock",
    "Relay",
    "StoredTalk",
    "TalkFault",
]
