"""A recording is opened, inspected and read to its end; what goes wrong is told as a fault of the source."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from airflow_provider_speechsense.api.audio import HEAD_BYTES, AudioFormat, Container
from airflow_provider_speechsense.api.sources import (
    AudioSource,
    InMemory,
    LocalFile,
    Recording,
    as_source,
    read_error,
)
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    SourceReadError,
    SpeechSenseError,
    UnsupportedAudioError,
)
from tests.api.support import WAV, BrokenSource, wav

SAMPLES = Path(__file__).parents[2] / "example_dags" / "data"
LONG = wav(seconds=20)
PCM = AudioFormat(None, 8000, 1)


class Unbuffered(io.BytesIO):
    """Gives less than it is asked for, as network files do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1000))


class Opened(InMemory):
    """Remembers the files it opened."""

    def open(self) -> BinaryIO:
        file = Unbuffered(self.data)
        object.__setattr__(self, "file", file)
        return file


def read(source: AudioSource, chunk: int = 1000, declared: AudioFormat | None = None) -> list[bytes]:
    with Recording(source, declared) as recording:
        return list(recording.chunks(chunk))


def test_bytes_paths_and_sources_are_sources(tmp_path: Path) -> None:
    assert as_source(WAV) == InMemory(WAV)
    assert as_source("call.wav") == as_source(Path("call.wav")) == LocalFile(Path("call.wav"))
    source = InMemory(WAV, name="mine")
    assert as_source(source) is source


def test_a_local_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(WAV)
    source = LocalFile(path)
    assert (source.name, source.size) == (str(path), len(WAV))
    assert b"".join(read(source)) == WAV


@pytest.mark.parametrize("chunk", [1, 7, 1000, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 1_000_000])
def test_chunks_are_the_whole_recording_in_order_and_all_but_the_last_are_full(chunk: int) -> None:
    data = LONG if chunk >= 1000 else WAV
    chunks = read(Opened(data), chunk)
    assert b"".join(chunks) == data
    assert {len(part) for part in chunks[:-1]} <= {chunk}
    assert 0 < len(chunks[-1]) <= chunk


def test_a_recording_is_inspected_before_it_is_read() -> None:
    with Recording(InMemory(WAV), None) as recording:
        assert recording.facts.format.container is Container.WAV
        assert recording.facts.duration_seconds == 0.5


@pytest.mark.parametrize("times", [1, 15], ids=["short", "longer than is read ahead"])
def test_the_length_of_ogg_is_read_from_its_end(times: int) -> None:
    # One after another they are no sound recording, but one whose last page tells the time.
    data = (SAMPLES / "call.ogg").read_bytes() * times
    assert (len(data) > 2 * HEAD_BYTES) is (times > 1)
    with Recording(Opened(data), None) as recording:
        assert recording.facts.format.container is Container.OGG_OPUS
        assert 10 < (recording.facts.duration_seconds or 0) < 120
        assert b"".join(recording.chunks(1000)) == data


def test_a_source_that_cannot_seek_is_read_all_the_same() -> None:
    class Pipe(Opened):
        def open(self) -> BinaryIO:
            file = super().open()
            file.seekable = lambda: False  # type: ignore[method-assign]
            return file

    data = (SAMPLES / "call.ogg").read_bytes() * 5
    assert b"".join(read(Pipe(data))) == data


def test_the_file_is_closed_however_the_reading_ends() -> None:
    source: Any = Opened(WAV)
    read(source)
    assert source.file.closed
    garbage: Any = Opened(b"\x07garbage\x07" * 100)
    with pytest.raises(UnsupportedAudioError):
        read(garbage)
    assert garbage.file.closed


# --- what can be wrong with a source


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda folder: folder / "none.wav", "none.wav does not exist"),
        (lambda folder: folder, "is a folder"),
    ],
)
def test_a_source_that_is_no_file_is_not_worth_a_retry(tmp_path: Path, make: Any, text: str) -> None:
    with pytest.raises(SourceReadError, match=text) as caught:
        read(LocalFile(make(tmp_path)))
    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, OSError)
    assert "What to do: " in str(caught.value)


def test_a_missing_right_is_not_worth_a_retry() -> None:
    error = read_error(InMemory(b"", name="s3://calls/1.wav"), PermissionError("no"))
    assert str(error).startswith("The source s3://calls/1.wav may not be read: PermissionError: no")
    assert not error.retryable


@pytest.mark.parametrize("data", [b"", LONG[:100_000]], ids=["at once", "on the way"])
def test_a_storage_that_fails_is_worth_a_retry_and_keeps_its_own_error(data: bytes) -> None:
    failure = TimeoutError("storage is slow")
    source = BrokenSource(data, len(LONG), failure)
    with pytest.raises(
        SourceReadError, match=r"s3://calls/1.wav cannot be read: TimeoutError: storage"
    ) as caught:
        read(source)
    assert caught.value.retryable
    assert caught.value.__cause__ is failure


def test_a_size_that_cannot_be_told_is_a_read_error() -> None:
    class Sizeless(InMemory):
        @property
        def size(self) -> int:
            raise ConnectionError("storage is away")

    with pytest.raises(SourceReadError, match="storage is away"):
        read(Sizeless(WAV))


def test_an_error_of_our_own_stays_what_it_is() -> None:
    ours = ConfigurationError("no such connection")

    class Ours(InMemory):
        def open(self) -> BinaryIO:
            raise ours

    with pytest.raises(ConfigurationError) as caught:
        read(Ours(WAV))
    assert caught.value is ours
    assert ours.__cause__ is None


@pytest.mark.parametrize(
    ("really", "now_has"),
    [(LONG[:-1], "320043"), (LONG + b"x", "more"), (LONG[:HEAD_BYTES], str(HEAD_BYTES))],
)
def test_a_source_that_changes_while_it_is_read_is_not_sent_as_if_whole(really: bytes, now_has: str) -> None:
    source = BrokenSource(really, len(LONG))
    with Recording(source, None) as recording:
        chunks = recording.chunks(100_000)
        given = list(itertools.islice(chunks, len(really) // 100_000))
        with pytest.raises(SourceReadError, match="changed while it was read") as caught:
            given += list(chunks)
    assert len(b"".join(given)) <= len(LONG)
    assert f"had {len(LONG)} bytes when it was opened and now has {now_has}" in str(caught.value)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is empty"),
        (b"<html><body>404 Not Found</body></html>", "is text"),
        (WAV[:20] + b"\x07\x00" + WAV[22:], "is WAV with mu-law"),
        (b"fLaC" + bytes(100), "is FLAC"),
    ],
)
def test_what_is_not_audio_that_the_service_takes_is_refused_by_name(data: bytes, text: str) -> None:
    with pytest.raises(UnsupportedAudioError, match=f"^calls/1.wav {text}"):
        read(InMemory(data, name="calls/1.wav"))


def test_a_declared_format_is_held_against_the_bytes() -> None:
    assert b"".join(read(InMemory(bytes(1000)), declared=PCM)) == bytes(1000)
    with pytest.raises(SpeechSenseError, match="headerless PCM"):
        read(InMemory(WAV), declared=PCM)
