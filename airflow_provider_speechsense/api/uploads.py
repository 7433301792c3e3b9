"""Building what the upload methods send, and checking that it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.audio import AudioFormat, Container
from airflow_provider_speechsense.api.metadata import TalkMetadata, check_chat
from airflow_provider_speechsense.api.sources import Recording
from airflow_provider_speechsense.api.transport import MAX_MESSAGE_BYTES
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    MessageTooLargeError,
    UnsupportedAudioError,
)

#: Bytes in one message of a stream. The limit allows more, but a mebibyte is enough for full speed.
DEFAULT_CHUNK_SIZE = 1_048_576
#: What a message needs beside audio and metadata, in bytes, generously.
_ENVELOPE_BYTES = 1_024

#: Called while an upload goes on, with the bytes handed over so far and in all.
Progress = Callable[[int, int], None]


def talk_metadata(checked: TalkMetadata) -> Any:
    """Return the TalkMetadata message."""
    return protos.speechsense.TalkMetadata(
        connection_id=checked.connection_id,
        fields=dict(checked.fields),
        users=[protos.speechsense.UserMetadata(**user) for user in checked.users],
    )


def audio_metadata(audio_format: AudioFormat) -> Any:
    """Return the AudioMetadata message: the container, or rate and channels of headerless PCM."""
    if audio_format.container is None:
        return protos.speechsense.AudioMetadata(
            raw_audio={
                "audio_encoding": "AUDIO_ENCODING_LINEAR16_PCM",
                "sample_rate_hertz": audio_format.sample_rate_hertz,
                "audio_channel_count": audio_format.channels,
            }
        )
    kind = f"CONTAINER_AUDIO_TYPE_{audio_format.container.value}"
    return protos.speechsense.AudioMetadata(container_audio={"container_audio_type": kind})


def audio_request(checked: TalkMetadata, recording: Recording) -> Any:
    """Return the request that carries a whole recording, whose size is checked before it is read.

    :raises MessageTooLargeError: it does not fit into one message
    """
    request = protos.speechsense.UploadTalkRequest(metadata=talk_metadata(checked))
    room = MAX_MESSAGE_BYTES - _ENVELOPE_BYTES - request.ByteSize()
    if recording.size > room:
        raise MessageTooLargeError(
            f"{recording.name} is {recording.size:,} bytes; beside the metadata one message has room for "
            f"{room:,}.",
            hint="use SpeechSenseStreamOperator (upload_stream in Python), which sends it in chunks.",
        )
    request.audio.audio_metadata.CopyFrom(audio_metadata(recording.facts.format))
    request.audio.audio_data.data = b"".join(recording.chunks(DEFAULT_CHUNK_SIZE))
    return request


def text_request(checked: TalkMetadata, messages: Iterable[Mapping[str, Any]]) -> Any:
    """Return the request that carries a chat.

    :raises InvalidChatError: with every fault in the messages
    :raises MessageTooLargeError: the chat does not fit into one message
    """
    request = protos.speechsense.UploadTextRequest(metadata=talk_metadata(checked))
    for message in check_chat(messages, checked.fields):
        added = request.text_content.messages.add(user_id=message.user_id)
        added.timestamp.FromDatetime(message.timestamp)
        added.text.text = message.text
    if request.ByteSize() > MAX_MESSAGE_BYTES:
        raise MessageTooLargeError(
            f"The chat is {request.ByteSize():,} bytes, one message takes {MAX_MESSAGE_BYTES:,}.",
            hint="split the chat into several talks.",
        )
    return request


def check_chunk_size(chunk_size: object) -> int:
    """Return ``chunk_size`` if a chunk of so many bytes fits into a message.

    :raises ConfigurationError: it does not
    """
    if isinstance(chunk_size, int) and 0 < chunk_size <= MAX_MESSAGE_BYTES - _ENVELOPE_BYTES:
        return chunk_size
    raise ConfigurationError(
        f"chunk_size is {chunk_size!r}.", hint="give a number of bytes from 1 to just under 128 MiB."
    )


def check_badge_format(recording: Recording) -> None:
    """Check that UploadBadge takes the recording's container; if not, close it.

    :raises UnsupportedAudioError: it does not
    """
    container = recording.facts.format.container
    if container not in (Container.WAV, Container.MP3):
        recording.close()
        raise UnsupportedAudioError(
            f"{recording.name} is {container.value if container else 'headerless PCM'}; "
            "UploadBadge takes only WAV and MP3.",
            hint="convert the recording to WAV or MP3.",
        )


def stream_messages(
    checked: TalkMetadata, recording: Recording, chunk_size: int, progress: Progress | None
) -> Iterator[Any]:
    """Yield the messages of a stream in the order that the service wants: metadata, audio header, chunks."""
    message = protos.speechsense.StreamTalkRequest
    with recording:
        yield message(metadata=talk_metadata(checked))
        yield message(audio={"audio_metadata": audio_metadata(recording.facts.format)})
        sent = 0
        for chunk in recording.chunks(chunk_size):
            yield message(audio={"chunk": {"data": chunk}})
            sent += len(chunk)
            if progress:
                progress(sent, recording.size)
