"""Uploaded audio on disk, and parts of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from airflow_provider_speechsense.api.audio import HEAD_BYTES, TAIL_BYTES, AudioFacts, AudioFormat, inspect

#: Of headerless 16-bit PCM, and of that in WAV.
SAMPLE_BYTES = 2


@dataclass(frozen=True)
class Recording:
    """Some bytes of a stored file, and what is known about them.

    :param offset: where they begin in the file
    :param size: how many they are
    """

    path: Path
    facts: AudioFacts
    offset: int
    size: int

    @property
    def is_pcm(self) -> bool:
        """Whether its samples can be looked at."""
        return self.facts.data_bytes is not None

    @property
    def pcm_offset(self) -> int:
        """Where its samples begin in the file."""
        return self.offset + self.facts.data_offset

    def read(self) -> bytes:
        """Return the bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def part(self, begin_ms: int, end_ms: int) -> Recording:
        """Return the samples between two times, without a header and without copying them."""
        rate, channels = self.facts.sample_rate_hertz or 0, self.facts.channels or 0
        whole = (self.facts.data_bytes or 0) // (SAMPLE_BYTES * channels)
        begin, end = (min(ms * rate // 1000, whole) for ms in (begin_ms, end_ms))
        size = (end - begin) * SAMPLE_BYTES * channels
        facts = replace(
            self.facts,
            format=AudioFormat(None, rate, channels),
            duration_seconds=(end - begin) / rate,
            data_offset=0,
            data_bytes=size,
        )
        return Recording(self.path, facts, self.pcm_offset + begin * SAMPLE_BYTES * channels, size)


def recording_of(path: Path, declared: AudioFormat) -> Recording:
    """Look at a stored file.

    :raises UnsupportedAudioError: it is not what it is declared to be, or nothing that the service takes
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(size - TAIL_BYTES, 0))
        tail = file.read(TAIL_BYTES)
    facts = inspect(head, size=size, tail=tail, declared=declared, name="the audio")
    return Recording(path, facts, 0, size)
