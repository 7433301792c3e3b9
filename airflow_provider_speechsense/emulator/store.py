"""What was uploaded, kept until the emulator closes."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_speechsense.emulator.faults import BadgeFault, TalkFault
from airflow_provider_speechsense.emulator.recordings import Recording
from airflow_provider_speechsense.emulator.refusal import invalid, not_found


@dataclass(frozen=True)
class ChatMessage:
    """One turn of a chat.

    :param channel: 0 operator, 1 client, 2 bot
    :param sent_at: seconds since 1970
    """

    channel: int
    user_id: str
    sent_at: float
    text: str


@dataclass
class StoredTalk:
    """A talk as it was uploaded; what is made of it is computed when it is asked for.

    :param fields: metadata values by key
    :param users: participants, as they came
    :param created_at: seconds since 1970; in the future for the talks of a badge not done yet
    :param analysis_begins: when its waiting for analysis began
    :param recording: None for a chat
    :param messages: empty for audio
    :param edited_at: when its metadata was last replaced
    :param faults: what a script has in store for it
    """

    id: str
    connection_id: str
    fields: Mapping[str, str]
    users: tuple[Any, ...]
    created_at: float
    analysis_begins: float
    recording: Recording | None = None
    messages: tuple[ChatMessage, ...] = ()
    edited_at: float | None = None
    cancelled: bool = False
    faults: list[TalkFault] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def is_chat(self) -> bool:
        """Whether it came as text."""
        return self.recording is None

    @property
    def hidden_until(self) -> float:
        """Before this time nobody knows it."""
        return self.created_at + max((fault.hidden_seconds for fault in self.faults), default=0.0)


@dataclass
class StoredOperation:
    """The cutting of a badge recording.

    :param done_at: seconds since 1970
    :param fault: why it fails, if it does
    """

    id: str
    badge_id: str
    created_at: float
    done_at: float
    talk_ids: tuple[str, ...]
    fault: BadgeFault | None = None
    cancelled_at: float | None = None


class Store:
    """Talks, operations and audio files. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="speechsense-emulator-"))
        self._talks: dict[str, StoredTalk] = {}
        self._operations: dict[str, StoredOperation] = {}

    def close(self) -> None:
        """Remove the audio files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_id(self, prefix: str) -> str:
        """Return an id as long as the service's, which no other has."""
        return f"{prefix}{next(self._numbers):0{20 - len(prefix)}x}"

    def new_file(self) -> Path:
        """Return where to write the next recording."""
        return self._folder / f"{next(self._numbers)}.audio"

    def add(self, talk: StoredTalk) -> None:
        """Keep a talk."""
        with self._lock:
            self._talks[talk.id] = talk

    def add_operation(self, operation: StoredOperation) -> None:
        """Keep an operation."""
        with self._lock:
            self._operations[operation.id] = operation

    def find(self, talk_id: str) -> StoredTalk | None:
        """Return a talk, visible or not."""
        return self._talks.get(talk_id)

    def talks(self) -> list[StoredTalk]:
        """Return all talks, oldest first."""
        with self._lock:
            return list(self._talks.values())

    def operation(self, operation_id: str) -> StoredOperation:
        """Return an operation.

        :raises Refusal: there is none of this id, or the id is empty
        """
        if not operation_id:
            raise invalid("operation_id is required")
        found = self._operations.get(operation_id)
        if found is None:
            raise not_found(f"Operation {operation_id} not found")
        return found
