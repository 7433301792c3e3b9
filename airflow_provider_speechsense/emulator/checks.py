"""What an upload must be to be taken."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.audio import AudioFormat, Container
from airflow_provider_speechsense.emulator.connections import Connection, ConnectionType, FieldType
from airflow_provider_speechsense.emulator.recordings import Recording, recording_of
from airflow_provider_speechsense.emulator.refusal import invalid
from airflow_provider_speechsense.emulator.settings import EmulatorSettings
from airflow_provider_speechsense.emulator.store import ChatMessage
from airflow_provider_speechsense.emulator.values import PARSERS, parse_date
from airflow_provider_speechsense.exceptions import UnsupportedAudioError


class Kind(Enum):
    """What is uploaded, in the words of a refusal."""

    AUDIO = "audio"
    BADGE = "a badge recording"
    CHAT = "text"


#: What each type of connection takes.
_TAKES = {
    ConnectionType.TWO_CHANNEL: Kind.AUDIO,
    ConnectionType.ONE_CHANNEL: Kind.AUDIO,
    ConnectionType.SPLITTING: Kind.BADGE,
    ConnectionType.CHAT: Kind.CHAT,
}
_CHANNELS = {ConnectionType.TWO_CHANNEL: 2, ConnectionType.ONE_CHANNEL: 1, ConnectionType.SPLITTING: 1}
#: Who may send chat messages, by channel.
_SENDERS = ("operator_id", "client_id", "bot_id")
_BADGE_CONTAINERS = (Container.WAV, Container.MP3)


def check_metadata(metadata: Any, kind: Kind, settings: EmulatorSettings, *, editing: bool = False) -> None:
    """Check a TalkMetadata message against the limits, and against its connection if that is declared.

    :param editing: the metadata replaces that of a talk, so that keys may be left out
    :raises Refusal: naming the key
    """
    if not metadata.connection_id:
        raise invalid("metadata.connection_id is required")
    for fields in (metadata.fields, *(user.fields for user in metadata.users)):
        _check_limits(fields, settings)
    connection = settings.connections.get(metadata.connection_id)
    if connection is None:
        return
    if _TAKES[connection.type] is not kind:
        name = connection.type.value
        raise invalid(f"connection {metadata.connection_id} ({name}) does not take {kind.value}")
    _check_keys(metadata.fields, connection, settings, editing)


def _check_limits(fields: Mapping[str, str], settings: EmulatorSettings) -> None:
    if len(fields) > settings.max_keys:
        raise invalid(f"metadata has {len(fields)} keys, at most {settings.max_keys} are allowed")
    for key, value in fields.items():
        size = len(value.encode())
        if not key:
            raise invalid("metadata has an empty key")
        if size > settings.max_value_bytes:
            raise invalid(f"metadata.{key} has {size} bytes, at most {settings.max_value_bytes} are allowed")


def _check_keys(
    fields: Mapping[str, str], connection: Connection, settings: EmulatorSettings, editing: bool
) -> None:
    missing = sorted(name for name, key in connection.keys.items() if key.required and name not in fields)
    if missing and settings.missing_keys_refused and not editing:
        raise invalid(f"metadata lacks keys that the connection requires: {', '.join(missing)}")
    unknown = sorted(fields.keys() - connection.keys.keys())
    if unknown and not settings.unknown_keys_accepted:
        raise invalid(f"metadata has keys that the connection does not declare: {', '.join(unknown)}")
    if not settings.ill_typed_values_refused:
        return
    for name, key in connection.keys.items():
        # An empty value is how a key without one is spelled.
        if value := fields.get(name):
            try:
                PARSERS[key.type](value)
                if key.type is FieldType.DATE:
                    parse_date(value, naive_allowed=settings.naive_dates == "utc")
            except ValueError as error:
                raise invalid(f"metadata.{name} is no {key.type.value}: {error}") from error


def check_header(header: Any, kind: Kind) -> AudioFormat:
    """Read an AudioMetadata message.

    :raises Refusal: it says too little, or what the method does not take
    """
    form = header.WhichOneof("AudioFormat")
    if form == "raw_audio":
        raw = header.raw_audio
        if raw.audio_encoding != protos.speechsense.RawAudio.AudioEncoding.Value(
            "AUDIO_ENCODING_LINEAR16_PCM"
        ):
            raise invalid("audio_metadata.raw_audio.audio_encoding must be AUDIO_ENCODING_LINEAR16_PCM")
        declared = AudioFormat(None, raw.sample_rate_hertz, raw.audio_channel_count)
    elif form == "container_audio":
        number = header.container_audio.container_audio_type
        names = protos.speechsense.ContainerAudio.ContainerAudioType
        if number == 0 or number not in names.values():
            raise invalid("audio_metadata.container_audio.container_audio_type is not specified")
        declared = AudioFormat(Container[names.Name(number).removeprefix("CONTAINER_AUDIO_TYPE_")])
    else:
        raise invalid("audio_metadata must have raw_audio or container_audio")
    if kind is Kind.BADGE and declared.container not in _BADGE_CONTAINERS:
        raise invalid("UploadBadge takes only WAV and MP3")
    return declared


def check_audio(
    path: Path, declared: AudioFormat, connection_id: str, settings: EmulatorSettings
) -> Recording:
    """Check stored bytes against their declared format and the connection's number of channels.

    :raises Refusal: saying what the audio is
    """
    try:
        recording = recording_of(path, declared)
    except UnsupportedAudioError as error:
        raise invalid(error.message) from error
    seconds, channels = recording.facts.duration_seconds or 0.0, recording.facts.channels
    if seconds > settings.max_audio_seconds:
        raise invalid(f"the audio lasts {seconds:.0f} s, the limit is {settings.max_audio_seconds:.0f} s")
    connection = settings.connections.get(connection_id)
    wanted = _CHANNELS[connection.type] if connection else None
    if wanted and channels and channels != wanted:
        raise invalid(f"the audio has {channels} channels, connection {connection_id} takes {wanted}")
    return recording


def check_chat(content: Any, metadata: Any, settings: EmulatorSettings) -> tuple[ChatMessage, ...]:
    """Read a TextContent message.

    :raises Refusal: naming the message by its place in the chat, from 0
    """
    if not content.messages:
        raise invalid("text_content.messages is empty")
    channels = {metadata.fields[key]: i for i, key in enumerate(_SENDERS) if metadata.fields.get(key)}
    if settings.users_may_send:
        # Roles count from 1, in the order of the channels.
        channels |= {user.id: user.role - 1 for user in metadata.users if user.id and user.role}
    return tuple(_check_message(i, message, channels) for i, message in enumerate(content.messages))


def _check_message(i: int, message: Any, channels: Mapping[str, int]) -> ChatMessage:
    place = f"text_content.messages[{i}]"
    if message.user_id not in channels:
        raise invalid(f"{place}.user_id {message.user_id!r} is none of {', '.join(_SENDERS)} in the metadata")
    if not message.HasField("timestamp"):
        raise invalid(f"{place}.timestamp is required")
    if not message.HasField("text"):
        raise invalid(f"{place} has no payload")
    sent_at = message.timestamp.seconds + message.timestamp.nanos / 1e9
    return ChatMessage(channels[message.user_id], message.user_id, sent_at, message.text.text)
