"""Uploading: a recording in one message, in a stream, or to be cut into talks; a chat; new metadata."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import conf

from airflow_provider_speechsense.boundary import (
    ProgressLog,
    airflow_errors,
    backstop,
    check_trigger,
    end_time,
    rendered,
    seconds,
)
from airflow_provider_speechsense.exceptions import ConfigurationError, SpeechSenseError
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook
from airflow_provider_speechsense.operators._base import SpeechSenseOperator
from airflow_provider_speechsense.storage import json_or_location, source
from airflow_provider_speechsense.triggers.speechsense import SpeechSenseBadgeTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_speechsense.api.client import SpeechSenseClient
    from airflow_provider_speechsense.api.sources import AudioSource

#: Bytes in one message of a stream, as in api.uploads, which brings protobuf and so is not imported here.
DEFAULT_CHUNK_SIZE = 1_048_576

#: How soon a pause notices that the task was told to stop, in seconds.
_NAP_SECONDS = 1.0

_sleep = time.sleep


class _UploadOperator(SpeechSenseOperator):
    """What all uploads share.

    :param metadata: values by key (strings, booleans, numbers, aware datetimes, dicts, lists), or the path or
        URI of a JSON file with them
    :param connection_id: the SpeechSense connection to upload to; the Airflow connection may have a default
    :param users: values for each participant, dicts with ``id``, ``role`` and ``fields``
    :param strict_metadata: fail on missing template keys and on dates without a zone; the default is the
        connection's
    :param upload_timeout: seconds for one attempt; by default the connection's ``rpc_timeout`` and a second
        more for each 64 KiB
    :param speechsense_conn_id: the Airflow connection
    """

    ui_color = "#fef7e0"

    def __init__(
        self,
        *,
        metadata: Mapping[str, Any] | str,
        connection_id: str | None = None,
        users: Sequence[Mapping[str, Any]] | None = None,
        strict_metadata: bool | None = None,
        upload_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.metadata = metadata
        self.connection_id = connection_id
        self.users = users
        self.strict_metadata = strict_metadata
        self.upload_timeout = upload_timeout

    def _about_metadata(self) -> dict[str, Any]:
        """Return the client's arguments about metadata, which all of its uploads take."""
        return {
            "metadata": json_or_location(rendered(self.metadata)),
            "connection_id": rendered(self.connection_id),
            "users": rendered(self.users),
            "strict": self.strict_metadata,
            "timeout": seconds("upload_timeout", self.upload_timeout) if self.upload_timeout else None,
        }


class _TalkOperator(_UploadOperator):
    """Uploads a talk, or replaces the metadata of one.

    :param talk_id: instead of a recording or messages: the talk whose metadata to replace, all of it
    """

    #: What kind of talk it is to the client, and which argument has its content.
    _kind: ClassVar[Literal["audio", "chat"]]
    _content: ClassVar[str]

    def __init__(self, *, talk_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.talk_id = talk_id

    def execute(self, context: Context) -> str:
        """Upload, or edit, and return the talk's id."""
        with self._connected(context) as client:
            talk_id = rendered(self.talk_id)
            return self._edit(client, talk_id) if talk_id else self._upload(client)

    @abstractmethod
    def _upload(self, client: SpeechSenseClient) -> str:
        """Upload with ``client`` and return the talk's id."""

    def _edit(self, client: SpeechSenseClient, talk_id: str) -> str:
        if rendered(getattr(self, self._content)):
            raise ConfigurationError(
                f"{self._content} and talk_id are both given, but the content of a talk cannot be replaced.",
                hint=f"give talk_id alone to replace metadata, or {self._content} alone to upload.",
            )
        about = self._about_metadata()
        del about["timeout"]
        edited = client.edit_metadata(talk_id, kind=self._kind, **about)
        self.log.info("Replaced the metadata of talk %s.", edited)
        return edited


class SpeechSenseUploadOperator(_TalkOperator):
    """Uploads a recording in one message, or replaces the metadata of a talk; returns the talk's id.

    The recording is read into memory. One that does not fit into a message of 128 MiB is refused by its
    size, before it is read; ``SpeechSenseStreamOperator`` takes it.

    :param audio: path or URI of the recording, such as ``s3://conn@bucket/call.wav``
    :param audio_format: ``WAV``, ``MP3`` or ``OGG_OPUS``; detected by default. For headerless 16-bit PCM
        ``{"sample_rate_hertz": 8000, "channels": 2}``
    :param talk_id: instead of ``audio``: the talk whose metadata to replace, all of it
    :param metadata: values by key, or the path or URI of a JSON file with them
    :param connection_id: the SpeechSense connection to upload to; the Airflow connection may have a default
    :param users: values for each participant, dicts with ``id``, ``role`` and ``fields``
    :param strict_metadata: fail on missing template keys and on dates without a zone
    :param upload_timeout: seconds for one attempt; by default by size
    :param speechsense_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = (
        "audio",
        "metadata",
        "connection_id",
        "users",
        "audio_format",
        "talk_id",
        "speechsense_conn_id",
    )
    _kind = "audio"
    _content = "audio"

    def __init__(
        self,
        *,
        audio: str | None = None,
        audio_format: str | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.audio = audio
        self.audio_format = audio_format

    def _upload(self, client: SpeechSenseClient) -> str:
        talk_id = client.upload(**self._about_recording())
        self.log.info("Uploaded %s as talk %s.", self.audio, talk_id)
        return talk_id

    def _about_recording(self) -> dict[str, Any]:
        return {
            "audio": _recording(self.audio),
            "audio_format": rendered(self.audio_format),
            **self._about_metadata(),
        }


class SpeechSenseStreamOperator(SpeechSenseUploadOperator):
    """Uploads a recording of any size in a stream; returns the talk's id.

    Takes what ``SpeechSenseUploadOperator`` takes. Memory stays flat: the source is read as fast as the
    service takes it. Progress is logged every ten seconds.

    :param chunk_size: bytes in one message of the stream
    """

    def __init__(self, *, chunk_size: int = DEFAULT_CHUNK_SIZE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chunk_size = chunk_size

    def _upload(self, client: SpeechSenseClient) -> str:
        talk_id = client.upload_stream(
            chunk_size=self.chunk_size, progress=ProgressLog(self.log.info), **self._about_recording()
        )
        self.log.info("Streamed %s as talk %s.", self.audio, talk_id)
        return talk_id


class SpeechSenseTextOperator(_TalkOperator):
    """Uploads a chat, or replaces the metadata of one; returns the talk's id.

    :param messages: dicts with ``user_id`` (the metadata's operator_id, client_id or bot_id), ``timestamp``
        and ``text``; or the path or URI of a JSON file with a list of them
    :param talk_id: instead of ``messages``: the chat whose metadata to replace, all of it
    :param metadata: values by key, or the path or URI of a JSON file with them
    :param connection_id: the SpeechSense connection to upload to; the Airflow connection may have a default
    :param users: values for each participant, dicts with ``id``, ``role`` and ``fields``
    :param strict_metadata: fail on missing template keys and on dates without a zone
    :param upload_timeout: seconds for one attempt; by default by size
    :param speechsense_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = (
        "messages",
        "metadata",
        "connection_id",
        "users",
        "talk_id",
        "speechsense_conn_id",
    )
    _kind = "chat"
    _content = "messages"

    def __init__(self, *, messages: Sequence[Mapping[str, Any]] | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.messages = messages

    def _upload(self, client: SpeechSenseClient) -> str:
        messages = json_or_location(rendered(self.messages) or [])
        talk_id = client.upload_text(messages, **self._about_metadata())
        self.log.info("Uploaded a chat of %d messages as talk %s.", len(messages), talk_id)
        return talk_id


class SpeechSenseBadgeOperator(_UploadOperator):
    """Streams a long one-channel recording (a badge's) that SpeechSense cuts into talks.

    Returns the operation's id, or, with ``wait_for_completion``, a dict with ``operation_id``, ``badge_id``
    and ``talk_ids``; the talks are made then, not analysed yet: ``SpeechSenseBadgeSensor`` waits for both.

    :param audio: path or URI of the recording, WAV or MP3
    :param audio_format: ``WAV`` or ``MP3``; detected by default
    :param chunk_size: bytes in one message of the stream
    :param wait_for_completion: wait until the recording is cut. If this wait breaks, the task fails without a
        retry, which would upload the recording again.
    :param deferrable: wait in the triggerer, without a worker; the default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds between looks at the operation
    :param wait_timeout: seconds to wait in all
    :param metadata: values by key, or the path or URI of a JSON file with them
    :param connection_id: the SpeechSense connection to upload to; the Airflow connection may have a default
    :param users: values for each participant, dicts with ``id``, ``role`` and ``fields``
    :param strict_metadata: fail on missing template keys and on dates without a zone
    :param upload_timeout: seconds for one attempt; by default by size
    :param speechsense_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = (
        "audio",
        "metadata",
        "connection_id",
        "users",
        "audio_format",
        "speechsense_conn_id",
    )

    def __init__(
        self,
        *,
        audio: str,
        audio_format: str | Mapping[str, Any] | None = None,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 60.0,
        wait_timeout: float = 86_400.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.audio = audio
        self.audio_format = audio_format
        self.chunk_size = chunk_size
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.wait_timeout = wait_timeout

    def execute(self, context: Context) -> str | dict[str, Any]:
        """Upload, and wait if wanted."""
        with self._connected(context) as client:
            # All that could go wrong with the wait is found before the upload, which a retry would repeat.
            ends = end_time(context, seconds("wait_timeout", self.wait_timeout), self.execution_timeout)
            if self.wait_for_completion:
                check_trigger(self._trigger("", ends))
            operation = client.upload_badge(
                _recording(self.audio),
                audio_format=rendered(self.audio_format),
                chunk_size=self.chunk_size,
                progress=ProgressLog(self.log.info),
                **self._about_metadata(),
            )
        context["ti"].xcom_push(key="operation_id", value=operation.id)
        self.log.info(
            "Uploaded %s; operation %s cuts it into talks, badge %s.",
            self.audio,
            operation.id,
            operation.metadata.get("badge_id", "not named"),
        )
        return self._wait(context, operation.id, ends) if self.wait_for_completion else operation.id

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Return the talks that the trigger reports, or raise what it says went wrong."""
        from airflow_provider_speechsense.api.waits import conclude

        # A retry would upload the recording a second time.
        with airflow_errors(may_retry=False):
            made = conclude(event)
        return {name: made.get(name) for name in ("operation_id", "badge_id", "talk_ids")}

    def _wait(self, context: Context, operation_id: str, ends: float) -> dict[str, Any]:
        from airflow_provider_speechsense.api.client import SpeechSenseClient
        from airflow_provider_speechsense.api.polling import Pending

        # A retry would upload the recording a second time, so whatever ends this ends the task.
        with airflow_errors(may_retry=False):
            trigger = self._trigger(operation_id, ends)
            wait = trigger.wait()
            settings = SpeechSenseHook(self.speechsense_conn_id).get_polling_settings()
            with SpeechSenseClient(settings) as client:
                self._client = client
                while isinstance(found := wait.look(client, time.time()), Pending):
                    if self.deferrable:
                        self.defer(trigger=trigger, method_name="execute_complete", timeout=backstop(ends))
                    self.log.info("%s; looking again in %.0f s.", found.summary, found.seconds)
                    self._pause(found.seconds, operation_id)
        return self.execute_complete(context, found)

    def _pause(self, length: float, operation_id: str) -> None:
        """Sleep, in naps: Airflow 3 stops a task by ``on_kill`` alone, and this one is to notice."""
        while length > 0 and self._client is not None:
            _sleep(min(length, _NAP_SECONDS))
            length -= _NAP_SECONDS
        if self._client is None:
            raise SpeechSenseError(
                f"The task was told to stop; operation {operation_id} goes on.",
                hint="wait for it with SpeechSenseBadgeSensor.",
            )

    def _trigger(self, operation_id: str, ends: float) -> SpeechSenseBadgeTrigger:
        return SpeechSenseBadgeTrigger(
            operation_id=operation_id,
            wait_for_talks=False,
            speechsense_conn_id=self.speechsense_conn_id,
            poll_interval=seconds("poll_interval", self.poll_interval),
            end_time=ends,
        )


def _recording(audio: Any) -> AudioSource:
    audio = rendered(audio)
    if audio is None:
        raise ConfigurationError("audio is empty.", hint="give the path or URI of the recording.")
    return source(audio)
