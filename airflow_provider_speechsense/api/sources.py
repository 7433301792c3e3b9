"""Where a recording comes from: something with a name and a size that can be opened again and again."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from airflow_provider_speechsense.api.audio import HEAD_BYTES, TAIL_BYTES, AudioFacts, AudioFormat, inspect
from airflow_provider_speechsense.exceptions import SourceReadError, SpeechSenseError

log = logging.getLogger(__name__)


class AudioSource(Protocol):
    """A recording that can be read more than once: a refused upload starts again from byte 0.

    Whatever its members raise becomes a ``SourceReadError``.
    """

    @property
    def name(self) -> str:
        """What messages call it, without secrets."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def open(self) -> BinaryIO:
        """Return a binary file at its beginning."""


@dataclass(frozen=True)
class LocalFile:
    """A recording on disk."""

    path: Path

    @property
    def name(self) -> str:
        """The path as given."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Size in bytes now."""
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """Open the file; unbuffered, because whole chunks are read."""
        return self.path.open("rb", buffering=0)


@dataclass(frozen=True)
class InMemory:
    """A recording that is in memory already."""

    data: bytes = field(repr=False)
    name: str = "the audio"

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.data)

    def open(self) -> BinaryIO:
        """Return a file over the bytes."""
        return io.BytesIO(self.data)


def as_source(audio: AudioSource | bytes | str | os.PathLike[str]) -> AudioSource:
    """Return ``audio`` as a source: bytes, the path of a local file, or a source already."""
    if isinstance(audio, bytes):
        return InMemory(audio)
    if isinstance(audio, str | os.PathLike):
        return LocalFile(Path(audio))
    return audio


def read_error(source: AudioSource, error: BaseException) -> SourceReadError:
    """Make the error that says that ``source`` cannot be read, and what to do by its cause."""
    if isinstance(error, FileNotFoundError):
        what, hint = "does not exist", "check the path, and that the worker running the task can see it."
    elif isinstance(error, IsADirectoryError):
        what, hint = "is a folder", "give the path of one file."
    elif isinstance(error, PermissionError):
        what, hint = "may not be read", "check the rights of the user or of the storage connection."
    else:
        what, hint = "cannot be read", "check the storage and its connection; a retry starts from byte 0."
    passing = not isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError)
    return SourceReadError(
        f"The source {source.name} {what}: {type(error).__name__}: {error}", hint=hint, retryable=passing
    )


def size_of(source: AudioSource) -> int:
    """Return the size of ``source`` in bytes.

    :raises SourceReadError: it cannot be told
    """
    with _reading(source):
        return source.size


@contextmanager
def _reading(source: AudioSource) -> Iterator[None]:
    """Turn what reading may raise into ``SourceReadError``."""
    try:
        yield
    except SpeechSenseError:
        raise
    except Exception as error:
        raise read_error(source, error) from error


class Recording:
    """A source opened once: inspected, then read to its end in chunks. A context manager that closes it.

    :param source: where the recording comes from
    :param declared: its format, where the user gave one
    :raises UnsupportedAudioError: it is not audio that the service takes
    :raises SourceReadError: it cannot be read
    """

    def __init__(self, source: AudioSource, declared: AudioFormat | None) -> None:
        self.name = source.name
        self.size = size_of(source)
        self._source = source
        with _reading(self._source):
            self._file = source.open()
        try:
            with _reading(self._source):
                self._head = _read_fully(self._file, HEAD_BYTES)
                tail = self._tail()
            self.facts: AudioFacts = inspect(
                self._head, size=self.size, tail=tail, declared=declared, name=self.name
            )
        except BaseException:
            self.close()
            raise
        for warning in self.facts.warnings:
            log.warning("%s: %s", self.name, warning)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the source."""
        self._file.close()

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the recording in chunks of ``size`` bytes, the last one shorter.

        :raises SourceReadError: reading failed, or the source is not as long as it said
        """
        buffer, sent = self._head, 0
        while True:
            with _reading(self._source):
                buffer += _read_fully(self._file, size - len(buffer))
            chunk, buffer = buffer[:size], buffer[size:]
            sent += len(chunk)
            if sent > self.size or (not chunk and sent < self.size):
                raise SourceReadError(
                    f"The source {self.name} had {self.size} bytes when it was opened and now has "
                    f"{'more' if chunk else sent}: it changed while it was read.",
                    hint="upload recordings only when they are complete.",
                )
            if not chunk:
                return
            yield chunk

    def _tail(self) -> bytes:
        # Only OggOpus tells its length at the end; elsewhere a seek would cost a request for nothing.
        if not self._head.startswith(b"OggS") or self.size <= len(self._head) or not self._file.seekable():
            return b""
        self._file.seek(max(0, self.size - TAIL_BYTES))
        tail = _read_fully(self._file, TAIL_BYTES)
        self._file.seek(len(self._head))
        return tail


def _read_fully(file: BinaryIO, size: int) -> bytes:
    """Read ``size`` bytes, fewer only at the end: an unbuffered read may give less than it has."""
    parts: list[bytes] = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts) if len(parts) != 1 else parts[0]
