"""The SpeechSense service as plain Python: what goes in and comes out is dicts, strings and small records."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, Self

from airflow_provider_speechsense.api import getting, protos, search, uploads
from airflow_provider_speechsense.api.audio import AudioFormat, parse_format
from airflow_provider_speechsense.api.calls import Caller
from airflow_provider_speechsense.api.convert import from_dict
from airflow_provider_speechsense.api.metadata import TalkMetadata, check_metadata
from airflow_provider_speechsense.api.models import Operation, TalkStatus
from airflow_provider_speechsense.api.retry import CallKind
from airflow_provider_speechsense.api.settings import ClientSettings
from airflow_provider_speechsense.api.sources import AudioSource, Recording, as_source, size_of
from airflow_provider_speechsense.api.transport import Channels, check_endpoint
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    NotFoundError,
    ServiceUnavailableError,
    SpeechSenseError,
)

__all__ = ["ClientSettings", "SpeechSenseClient"]

log = logging.getLogger(__name__)

#: The cloud's operations live at an address of their own; elsewhere the service answers for its own.
_CLOUD = ".yandexcloud.net:443"
_CLOUD_OPERATIONS = "operation.api.cloud.yandex.net:443"
#: An upload slower than this many bytes a second (half a megabit) counts as hanging.
_SLOWEST_UPLOAD = 65_536

#: By what a talk is, the method that edits its metadata.
#: How soon a pause notices that the client was closed, in seconds.
_NAP = 0.25
_EDITED_BY = {"audio": "TalkService/Upload", "chat": "TalkService/UploadText"}

Audio = AudioSource | bytes | str | os.PathLike[str]
Metadata = Mapping[str, Any]
Users = Iterable[Mapping[str, Any]] | None
Format = str | Mapping[str, Any] | AudioFormat | None


class SpeechSenseClient:
    """Calls SpeechSense. Use it as a context manager, in the process that made it; threads may share it.

    Every method raises a ``SpeechSenseError`` that says what to do, and makes each attempt with a deadline.
    Arguments named like a scope id override the settings' default.

    :param sleep: pauses between attempts, for tests; by default a pause ends when the client is closed
    """

    def __init__(self, settings: ClientSettings, *, sleep: Callable[[float], None] | None = None) -> None:
        self._settings = settings
        self._endpoint = check_endpoint(settings.endpoint)
        self._search_endpoint = check_endpoint(settings.search_endpoint or self._endpoint, "search_endpoint")
        operations = settings.operation_endpoint or (
            _CLOUD_OPERATIONS if self._endpoint.endswith(_CLOUD) else self._endpoint
        )
        # The documents disagree on which of the two answers.
        self._operation_endpoints = [check_endpoint(operations, "operation_endpoint"), self._endpoint]
        self._channels = Channels(settings.tls, has_secret=settings.credentials.has_secret())
        self._closed = False
        self._caller = Caller(self._channels, settings.credentials, settings.retry, sleep or self._pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls under way end as cancelled, and a pause before the next ends too."""
        self._closed = True
        self._channels.close()

    # --- going up

    def upload(
        self,
        audio: Audio,
        metadata: Metadata,
        *,
        connection_id: str | None = None,
        users: Users = None,
        audio_format: Format = None,
        strict: bool | None = None,
        timeout: float | None = None,
    ) -> str:
        """Upload a recording in one message and return the talk's id.

        The recording is read into memory; its size is checked before.

        :param audio: bytes, a path, or an ``AudioSource``
        :param metadata: values by key, see ``api.metadata.check_metadata``
        :param audio_format: ``WAV``, ``MP3``, ``OGG_OPUS``; detected when absent; for headerless PCM
            ``{"sample_rate_hertz": 8000, "channels": 1}``
        :param timeout: seconds for the call; by default by size, at 64 KiB a second
        :raises MessageTooLargeError: the recording does not fit into one message
        :raises UnknownUploadOutcomeError: the connection broke when the service may have had everything
        """
        checked = self._metadata(metadata, connection_id, users, "audio", strict)
        with Recording(as_source(audio), parse_format(audio_format)) as recording:
            request = uploads.audio_request(checked, recording)
        return self._upload("Upload", request, timeout)

    def upload_stream(
        self,
        audio: Audio,
        metadata: Metadata,
        *,
        connection_id: str | None = None,
        users: Users = None,
        audio_format: Format = None,
        chunk_size: int = uploads.DEFAULT_CHUNK_SIZE,
        strict: bool | None = None,
        timeout: float | None = None,
        progress: uploads.Progress | None = None,
    ) -> str:
        """Upload a recording of any size in a stream and return the talk's id; memory stays flat.

        :param chunk_size: bytes in one message of the stream
        :param progress: called after each chunk with bytes handed over and bytes in all
        :raises SourceReadError: reading the recording failed; no talk is made
        """
        checked = self._metadata(metadata, connection_id, users, "audio", strict)
        answer = self._stream("UploadAsStream", audio, checked, audio_format, chunk_size, timeout, progress)
        return str(answer.talk_id)

    def upload_badge(
        self,
        audio: Audio,
        metadata: Metadata,
        *,
        connection_id: str | None = None,
        users: Users = None,
        audio_format: Format = None,
        chunk_size: int = uploads.DEFAULT_CHUNK_SIZE,
        strict: bool | None = None,
        timeout: float | None = None,
        progress: uploads.Progress | None = None,
    ) -> Operation:
        """Upload a long one-channel recording to be cut into talks; return the operation that does it.

        :raises UnsupportedAudioError: it is neither WAV nor MP3, which is all this method takes
        """
        checked = self._metadata(metadata, connection_id, users, "badge", strict)
        answer = self._stream("UploadBadge", audio, checked, audio_format, chunk_size, timeout, progress)
        return getting.operation_of(answer)

    def upload_text(
        self,
        messages: Iterable[Mapping[str, Any]],
        metadata: Metadata,
        *,
        connection_id: str | None = None,
        users: Users = None,
        strict: bool | None = None,
        timeout: float | None = None,
    ) -> str:
        """Upload a chat and return the talk's id.

        :param messages: dicts with ``user_id`` (one of the metadata's operator_id, client_id, bot_id),
            ``timestamp`` and ``text``
        :raises InvalidChatError: with every fault in the messages
        """
        checked = self._metadata(metadata, connection_id, users, "chat", strict)
        request = uploads.text_request(checked, messages)
        return self._upload("UploadText", request, timeout)

    def edit_metadata(
        self,
        talk_id: str,
        metadata: Metadata,
        *,
        kind: Literal["audio", "chat"] = "audio",
        connection_id: str | None = None,
        users: Users = None,
        strict: bool | None = None,
    ) -> str:
        """Replace the metadata of an existing talk and return its id.

        All keys are replaced: what is left out loses its value.

        :param kind: ``audio`` or ``chat``, whichever the talk is
        """
        method = _EDITED_BY.get(kind)
        if method is None:
            raise ConfigurationError(f"kind is {kind!r}.", hint=f"give one of {', '.join(_EDITED_BY)}.")
        talk_id, *others = search.check_talk_ids(talk_id)
        if others:
            raise ConfigurationError(
                f"talk_id names {len(others) + 1} talks.",
                hint="edit one talk at a time, by dynamic task mapping.",
            )
        checked = self._metadata(metadata, connection_id, users, kind, strict)
        request = protos.METHODS[method].request(talk_id=talk_id, metadata=uploads.talk_metadata(checked))
        return str(self._unary(method, request, self._endpoint).talk_id)

    # --- coming back

    def search(
        self,
        *,
        filters: Iterable[Mapping[str, Any]] | None = None,
        query: str | Mapping[str, Any] | None = None,
        sort: Iterable[str | Mapping[str, Any]] | None = None,
        limit: int | None = None,
        page_size: int = search.MAX_PAGE,
        **scope: str | None,
    ) -> Iterator[str]:
        """Yield the ids of all talks that match, page after page, each once.

        :param filters: conditions that must all hold, see ``api.search.search_request``
        :param query: text that must occur, or a dict with ``text``, ``inverse``, ``channel_number``
        :param sort: names, ``-name`` for downwards, or dicts with ``field`` and ``order``
        :param limit: stop after so many ids
        :raises InvalidRequestError: naming every key that is wrong, before anything is sent
        """
        request = search.search_request(
            self._scope(scope), filters=filters, query=query, sort=sort, limit=limit, page_size=page_size
        )
        return search.pages(self._search, request, limit)

    def count(self, **scope: str | None) -> int:
        """Return how many talks a search without conditions matches; costs one small call."""
        return int(self._search(search.search_request(self._scope(scope), page_size=1)).talks_count)

    def get(
        self,
        talk_ids: str | Iterable[str],
        *,
        results_mask: str | Iterable[str] | None = None,
        **scope: str | None,
    ) -> Iterator[dict[str, Any]]:
        """Yield talks as plain dicts, in batches that the service can answer.

        :param talk_ids: any number of ids
        :param results_mask: names of the Talk fields wanted. None asks for everything, an empty list for no
            analysis at all.
        :raises NotFoundError: after all that were found, naming the ids that were not
        """
        fetch = self._fetch(search.check_mask(results_mask), scope)
        return getting.talks(fetch, search.check_talk_ids(talk_ids))

    def statuses(self, talk_ids: str | Iterable[str], **scope: str | None) -> list[TalkStatus]:
        """Return how far the analysis of talks is; an id that the service does not know is left out."""
        fetch = self._fetch(["talk_state"], scope)
        return [getting.status_of(talk) for talk in getting.available(fetch, search.check_talk_ids(talk_ids))]

    def failure_reasons(self, talk_ids: str | Iterable[str], **scope: str | None) -> dict[str, str]:
        """Return the service's own words on why talks failed, by id; an id without any is left out."""
        # The only error texts are inside the transcription.
        fetch = self._fetch(["transcription"], scope)
        found = getting.available(fetch, search.check_talk_ids(talk_ids))
        return {talk.id: reason for talk in found if (reason := getting.reason_of(talk))}

    def get_operation(self, operation_id: str) -> Operation:
        """Return the operation as it is now."""
        return self._operation("OperationService/Get", operation_id)

    def cancel_operation(self, operation_id: str) -> Operation:
        """Ask the service to stop an operation; return it as it is then."""
        return self._operation("OperationService/Cancel", operation_id)

    # --- inside

    def _pause(self, seconds: float) -> None:
        # In short naps: close() may come out of a signal's handler, where no lock may be waited for.
        ends = time.monotonic() + seconds
        while not self._closed and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, _NAP))
        if self._closed:
            raise ServiceUnavailableError("The client was closed while it waited to try again.")

    def _unary(self, name: str, request: Any, endpoint: str) -> Any:
        return self._caller.unary(
            name, request, endpoint=endpoint, timeout=self._at_most(self._settings.rpc_timeout)
        )

    def _scope(self, given: Mapping[str, str | None]) -> dict[str, str]:
        known = ("organization_id", "space_id", "project_id", "connection_id")
        if unknown := set(given) - set(known):
            raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
        chosen = {name: given.get(name) or self._settings.scope.get(name) for name in known}
        return {name: value for name, value in chosen.items() if value}

    def _metadata(
        self, metadata: Metadata, connection_id: str | None, users: Users, kind: str, strict: bool | None
    ) -> TalkMetadata:
        """Check a talk's metadata, with the settings' defaults."""
        checked = check_metadata(
            metadata,
            connection_id=connection_id or self._settings.scope.get("connection_id"),
            users=users,
            kind=kind,
            strict=self._settings.strict_metadata if strict is None else strict,
        )
        for warning in checked.warnings:
            log.warning("Talk metadata: %s", warning)
        return checked

    def _at_most(self, timeout: float) -> float:
        return min(timeout, self._settings.longest_call)

    def _upload_timeout(self, size: int) -> float:
        return self._settings.rpc_timeout + size / _SLOWEST_UPLOAD

    def _upload(self, name: str, request: Any, timeout: float | None) -> str:
        answer = self._caller.unary(
            f"TalkService/{name}",
            request,
            endpoint=self._endpoint,
            timeout=self._at_most(timeout or self._upload_timeout(request.ByteSize())),
            kind=CallKind.FIRST_UPLOAD,
        )
        return str(answer.talk_id)

    def _stream(
        self,
        name: str,
        audio: Audio,
        checked: TalkMetadata,
        audio_format: Format,
        chunk_size: int,
        timeout: float | None,
        progress: uploads.Progress | None,
    ) -> Any:
        uploads.check_chunk_size(chunk_size)
        source, declared = as_source(audio), parse_format(audio_format)

        def begin() -> Iterator[Any]:
            recording = Recording(source, declared)
            if name == "UploadBadge":
                uploads.check_badge_format(recording)
            return uploads.stream_messages(checked, recording, chunk_size, progress)

        return self._caller.stream(
            f"TalkService/{name}",
            begin,
            endpoint=self._endpoint,
            timeout=self._at_most(timeout or self._upload_timeout(size_of(source))),
        )

    def _search(self, request: Any) -> Any:
        return self._unary("TalkService/Search", request, self._search_endpoint)

    def _fetch(self, mask: list[str] | None, scope: Mapping[str, str | None]) -> getting.Fetch:
        """Return the function that gets some talks in one call."""
        request = from_dict(protos.speechsense.GetTalkRequest(), self._scope(scope), "scope", [])
        if mask is not None:
            # Present even when empty: that is a third request, between "everything" and "these".
            request.results_mask.SetInParent()
            request.results_mask.paths.extend(mask)

        def fetch(ids: list[str]) -> Iterable[Any]:
            request.talk_ids[:] = ids
            talks: Iterable[Any] = self._unary("TalkService/Get", request, self._search_endpoint).talk
            return talks

        return fetch

    def _operation(self, method: str, operation_id: str) -> Operation:
        if not isinstance(operation_id, str) or not operation_id.strip():
            fault = f"operation_id is {operation_id!r}: give the id of what upload_badge returned."
            search.raise_faults([fault], "Operation")
        request = protos.METHODS[method].request(operation_id=operation_id)
        errors: list[SpeechSenseError] = []
        for endpoint in dict.fromkeys(self._operation_endpoints):
            try:
                return getting.operation_of(self._unary(method, request, endpoint))
            except SpeechSenseError as error:
                if error.code not in ("NOT_FOUND", "UNIMPLEMENTED"):
                    raise
                errors.append(error)
        # That it is not known says more than that a server knows no operations.
        raise next((error for error in errors if isinstance(error, NotFoundError)), errors[0])
