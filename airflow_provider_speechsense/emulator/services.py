"""The services that the emulator speaks. One more is one more class here, listed in SERVICES."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator import badges, checks, searching
from airflow_provider_speechsense.emulator.answers import answer, wanted_paths
from airflow_provider_speechsense.emulator.calls import Call
from airflow_provider_speechsense.emulator.checks import Kind
from airflow_provider_speechsense.emulator.faults import Script
from airflow_provider_speechsense.emulator.lifecycle import algorithms_of, duration
from airflow_provider_speechsense.emulator.quota import Quota
from airflow_provider_speechsense.emulator.receiving import receive
from airflow_provider_speechsense.emulator.recordings import Recording
from airflow_provider_speechsense.emulator.refusal import Refusal, invalid, not_found
from airflow_provider_speechsense.emulator.settings import Access, EmulatorSettings
from airflow_provider_speechsense.emulator.store import Store, StoredOperation, StoredTalk

_messages = protos.speechsense


@dataclass(frozen=True)
class World:
    """What all services share."""

    settings: EmulatorSettings
    store: Store
    script: Script

    @property
    def now(self) -> float:
        """Seconds since 1970, by the settings' clock."""
        return self.settings.clock()


class Service:
    """A service of the API. Its methods have the API's names in snake_case: ``(request, call) -> answer``.

    A method that streams gets the stream as its request.
    """

    name: ClassVar[str]
    #: What a method, by the API's name, needs; one that is not listed takes any good key.
    access: ClassVar[Mapping[str, Access]] = {}

    def __init__(self, world: World) -> None:
        self._world = world


class TalkService(Service):
    """Uploads, search and results."""

    name = "TalkService"
    access: ClassVar[Mapping[str, Access]] = {
        "Upload": Access.UPLOAD,
        "UploadAsStream": Access.UPLOAD,
        "UploadText": Access.UPLOAD,
        "UploadBadge": Access.UPLOAD,
        "Search": Access.READ,
        "Get": Access.READ,
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._settings = world.settings
        self._store = world.store
        self._quota = Quota(world.settings.get_quota, world.settings.clock)

    def upload(self, request: Any, call: Call) -> Any:
        if self._is_edit(request, request.HasField("audio")):
            return _messages.UploadTalkResponse(talk_id=self._edit(request, Kind.AUDIO))
        data = request.audio.audio_data.data
        # The request is kept in the records; a hundred megabytes of audio need not be.
        request.audio.audio_data.ClearField("data")
        checks.check_metadata(request.metadata, Kind.AUDIO, self._settings)
        if not data:
            raise invalid("audio.audio_data.data is required")
        declared = checks.check_header(request.audio.audio_metadata, Kind.AUDIO)
        path = self._store.new_file()
        path.write_bytes(data)
        try:
            connection_id = request.metadata.connection_id
            recording = checks.check_audio(path, declared, connection_id, self._settings)
        except Refusal:
            path.unlink(missing_ok=True)
            raise
        return _messages.UploadTalkResponse(talk_id=self._add(request.metadata, recording=recording))

    def upload_as_stream(self, stream: Call, call: Call) -> Any:
        metadata, recording = self._receive(stream, Kind.AUDIO)
        return _messages.UploadTalkResponse(talk_id=self._add(metadata, recording=recording))

    def upload_text(self, request: Any, call: Call) -> Any:
        if self._is_edit(request, request.HasField("text_content")):
            return _messages.UploadTextResponse(talk_id=self._edit(request, Kind.CHAT))
        checks.check_metadata(request.metadata, Kind.CHAT, self._settings)
        chat = checks.check_chat(request.text_content, request.metadata, self._settings)
        return _messages.UploadTextResponse(talk_id=self._add(request.metadata, messages=chat))

    def upload_badge(self, stream: Call, call: Call) -> Any:
        metadata, recording = self._receive(stream, Kind.BADGE)
        fault = self._world.script.for_badge()
        begun = self._world.now
        done = begun + self._settings.badge_seconds
        parts = [] if fault else badges.cut(recording, self._settings.badge_pause_seconds)
        operation = StoredOperation(
            id=self._store.new_id("eag"),
            badge_id=self._store.new_id("eag"),
            created_at=begun,
            done_at=done,
            talk_ids=tuple(self._add(metadata, recording=part, created_at=done) for part in parts),
            fault=fault,
        )
        self._store.add_operation(operation)
        return badges.operation_message(operation, self._settings, begun)

    def search(self, request: Any, call: Call) -> Any:
        now = self._world.now
        delay = self._settings.search_visibility_delay
        talks = [talk for talk in self._store.talks() if self._is_seen(talk, request, now - delay)]
        return searching.search(request, talks, self._settings, now)

    def get(self, request: Any, call: Call) -> Any:
        ids = list(dict.fromkeys(request.talk_ids))
        if not ids:
            raise invalid("talk_ids is empty")
        paths = wanted_paths(request, self._settings)
        project = request.project_id or self._settings.project_id
        self._quota.spend(project, len(ids) if self._settings.quota_unit == "dialog" else 1)
        if len(ids) > self._settings.max_get_ids:
            raise Refusal(self._settings.oversize_get_code, "message exceeds maximum size")
        now = self._world.now
        delay = self._settings.get_visibility_delay
        found = {talk_id: self._store.find(talk_id) for talk_id in ids}
        seen = [talk for talk in found.values() if talk and self._is_seen(talk, request, now - delay)]
        rule = self._settings.mixed_talk_ids if seen else self._settings.unknown_talk_id
        if rule == "not_found" and len(seen) < len(ids):
            unknown = sorted(found.keys() - {talk.id for talk in seen})
            raise not_found(f"Talks not found: {', '.join(unknown)}")
        return _messages.GetTalkResponse(talk=[answer(talk, paths, self._settings, now) for talk in seen])

    def _receive(self, stream: Call, kind: Kind) -> tuple[Any, Recording]:
        path = self._store.new_file()
        try:
            metadata, declared = receive(
                stream,
                path,
                check_metadata=lambda metadata: checks.check_metadata(metadata, kind, self._settings),
                check_header=lambda header: checks.check_header(header, kind),
                max_bytes=self._settings.max_stream_bytes,
            )
            return metadata, checks.check_audio(path, declared, metadata.connection_id, self._settings)
        except (Refusal, grpc.RpcError):
            # Half a recording is no recording.
            path.unlink(missing_ok=True)
            raise

    def _is_edit(self, request: Any, has_content: bool) -> bool:
        if has_content and request.talk_id and self._settings.client_talk_id == "refused":
            raise invalid("talk_id must be empty for a new talk")
        return bool(request.talk_id) and not has_content

    def _edit(self, request: Any, kind: Kind) -> str:
        checks.check_metadata(request.metadata, kind, self._settings, editing=True)
        talk = self._store.find(request.talk_id)
        if talk is None or talk.cancelled or self._world.now < talk.hidden_until:
            raise not_found(f"Talk {request.talk_id} not found")
        if talk.is_chat is not (kind is Kind.CHAT):
            raise invalid(f"talk {talk.id} is not {kind.value}")
        if talk.connection_id != request.metadata.connection_id:
            raise invalid(f"talk {talk.id} belongs to connection {talk.connection_id}")
        talk.fields, talk.users = dict(request.metadata.fields), tuple(request.metadata.users)
        talk.edited_at = self._world.now
        return talk.id

    def _add(self, metadata: Any, *, created_at: float | None = None, **content: Any) -> str:
        created = self._world.now if created_at is None else created_at
        fault = self._world.script.for_talk()
        talk = StoredTalk(
            id=self._store.new_id("aud"),
            connection_id=metadata.connection_id,
            fields=dict(metadata.fields),
            users=tuple(metadata.users),
            created_at=created,
            analysis_begins=created,
            faults=[fault] if fault else [],
            **content,
        )
        if created_at is not None and self._settings.badge_talks_analysed_when_done:
            talk.analysis_begins = created - duration(algorithms_of(talk), self._settings)
        self._store.add(talk)
        return talk.id

    def _is_seen(self, talk: StoredTalk, request: Any, now: float) -> bool:
        settings = self._settings
        scopes = (
            (request.organization_id, settings.organization_id),
            (request.space_id, settings.space_id),
            (request.project_id, settings.project_id),
            (request.connection_id, talk.connection_id),
        )
        in_scope = all(asked == own for asked, own in scopes if asked and own)
        return in_scope and not talk.cancelled and now >= talk.hidden_until


class OperationService(Service):
    """The progress of badges."""

    name = "OperationService"

    def get(self, request: Any, call: Call) -> Any:
        operation = self._world.store.operation(request.operation_id)
        return badges.operation_message(operation, self._world.settings, self._world.now)

    def cancel(self, request: Any, call: Call) -> Any:
        operation = self._world.store.operation(request.operation_id)
        now = self._world.now
        if operation.cancelled_at is None and now < operation.done_at:
            operation.cancelled_at = now
            for talk_id in operation.talk_ids:
                if talk := self._world.store.find(talk_id):
                    talk.cancelled = True
        return badges.operation_message(operation, self._world.settings, now)


SERVICES: tuple[type[Service], ...] = (TalkService, OperationService)


def method_name(rpc: str) -> str:
    """Return the name of the Python method for an RPC: ``UploadAsStream`` is ``upload_as_stream``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()
