"""Taking in a streamed recording: its messages in the one order allowed, its bytes straight to disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from airflow_provider_speechsense.emulator.refusal import Refusal, invalid

_Header = TypeVar("_Header")


def receive(
    messages: Iterable[Any],
    path: Path,
    *,
    check_metadata: Callable[[Any], None],
    check_header: Callable[[Any], _Header],
    max_bytes: int | None,
) -> tuple[Any, _Header]:
    """Write the chunks of a stream to ``path``, and return its talk metadata and its checked audio header.

    :param messages: StreamTalkRequest messages
    :param max_bytes: of all chunks; None is no limit
    :raises Refusal: by a check, as soon as its message is there; or the order is wrong, or nothing came
    """
    metadata, header = None, None
    size = 0
    with path.open("wb") as file:
        for message in messages:
            event = message.WhichOneof("Event")
            if metadata is None:
                if event != "metadata":
                    raise invalid("the first message of the stream must be metadata")
                metadata = message.metadata
                check_metadata(metadata)
            elif event != "audio":
                raise invalid("metadata may come only once, in the first message of the stream")
            elif header is None:
                if message.audio.WhichOneof("AudioEvent") != "audio_metadata":
                    raise invalid("the second message of the stream must be audio.audio_metadata")
                header = check_header(message.audio.audio_metadata)
            elif message.audio.WhichOneof("AudioEvent") != "chunk":
                raise invalid("after audio.audio_metadata the stream may have only audio.chunk")
            else:
                size += file.write(message.audio.chunk.data)
                if max_bytes is not None and size > max_bytes:
                    raise Refusal("RESOURCE_EXHAUSTED", f"message exceeds maximum size {max_bytes}")
    if metadata is None or header is None:
        raise invalid(f"the stream ended before {'audio.audio_metadata' if metadata else 'metadata'}")
    if not size:
        raise invalid("the stream ended before audio.chunk")
    return metadata, header
