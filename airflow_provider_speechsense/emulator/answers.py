"""A stored talk as the API's Talk message, at a moment and through a results mask."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from google.protobuf.message import Message

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.models import Algorithm, ProcessingState
from airflow_provider_speechsense.emulator import analysis, chats
from airflow_provider_speechsense.emulator.connections import FieldType
from airflow_provider_speechsense.emulator.lifecycle import Progress, Step, algorithms_of, progress
from airflow_provider_speechsense.emulator.refusal import invalid
from airflow_provider_speechsense.emulator.settings import EmulatorSettings
from airflow_provider_speechsense.emulator.store import StoredTalk

#: What a mask can leave out; all else is always there.
RESULTS = (
    "transcription",
    "speech_statistics",
    "silence_statistics",
    "interrupts_statistics",
    "conversation_statistics",
    "points",
    "text_classifiers",
    "summarization",
    "assistants",
    "talk_state",
)
#: In no enum of the API's, as a server newer than the client would answer.
_UNKNOWN_STATE = 99

_Talk = protos.speechsense.Talk


def timestamp(seconds: float) -> Any:
    """Return seconds since 1970 as a Timestamp message."""
    message = protos.well_known.Timestamp()
    # Microseconds are as fine as a float is at this size.
    message.FromMicroseconds(round(seconds * 1e6))
    return message


def wanted_paths(request: Any, settings: EmulatorSettings) -> list[str]:
    """Return the paths of results that a Get asks for; unset, empty and given masks are three requests.

    :raises Refusal: a path that no Talk has
    """
    if not request.HasField("results_mask"):
        paths = list(RESULTS) if settings.unset_mask_returns == "everything" else []
    elif not request.results_mask.paths:
        paths = list(RESULTS) if settings.empty_mask_returns == "everything" else []
    else:
        paths = list(request.results_mask.paths)
        for path in paths:
            if not _is_path(path):
                raise invalid(f"results_mask: Talk has no field {path!r}")
    if settings.talk_state_without_mask and "talk_state" not in paths:
        paths.append("talk_state")
    return paths


def _is_path(path: str) -> bool:
    message: Any = _Talk()
    *parents, last = path.split(".")
    for name in parents:
        message = getattr(message, name, None)
        # A path cannot go on inside a list.
        if not isinstance(message, Message):
            return False
    return last in message.DESCRIPTOR.fields_by_name


def answer(talk: StoredTalk, paths: Collection[str], settings: EmulatorSettings, now: float) -> Any:
    """Return the Talk message, with the results at ``paths`` as far as they are there at ``now``."""
    at = progress(talk, settings, now)
    message = _base(talk, at, settings)
    full = _Talk()
    for name in {path.partition(".")[0] for path in paths}.intersection(RESULTS):
        part = _result(name, talk, at, settings)
        if part is not None:
            getattr(full, name).CopyFrom(part)
    nested = [path for path in paths if path.partition(".")[0] in RESULTS]
    protos.well_known.FieldMask(paths=nested).MergeMessage(full, message)
    return message


def _base(talk: StoredTalk, at: Progress, settings: EmulatorSettings) -> Any:
    finished = at.finished
    modified_at, modified_by = talk.created_at, settings.subject_id
    if finished:
        modified_at, modified_by = finished[-1].ends, finished[-1].algorithm.name
    if talk.edited_at is not None and talk.edited_at >= modified_at:
        modified_at, modified_by = talk.edited_at, settings.subject_id
    return _Talk(
        id=talk.id,
        organization_id=settings.organization_id,
        space_id=settings.space_id,
        connection_id=talk.connection_id,
        project_ids=[settings.project_id] if settings.project_id else [],
        created_by=settings.subject_id,
        created_at=timestamp(talk.created_at),
        modified_by=modified_by,
        modified_at=timestamp(modified_at),
        talk_fields=_fields(talk, settings),
    )


def _fields(talk: StoredTalk, settings: EmulatorSettings) -> list[Any]:
    connection = settings.connections.get(talk.connection_id)
    if connection is None:
        types: Mapping[str, FieldType] = dict.fromkeys(sorted(talk.fields), FieldType.STRING)
    else:
        types = {name: key.type for name, key in connection.keys.items()}
    return [
        protos.speechsense.Field(name=name, value=talk.fields.get(name), type=f"FIELD_TYPE_{kind.name}")
        for name, kind in types.items()
    ]


def _state(talk: StoredTalk, at: Progress, _: EmulatorSettings) -> Any:
    message = protos.speechsense.TalkState(processing_state=at.state.value)
    if any(fault.unknown_state for fault in talk.faults):
        message.processing_state = _UNKNOWN_STATE
    for algorithm in algorithms_of(talk):
        message.algorithm_processing_infos.add(
            algorithm=algorithm.value, processing_state=at.of(algorithm).value
        )
    return message


def _transcription(talk: StoredTalk, at: Progress, _: EmulatorSettings) -> Any:
    message = protos.analysis.Transcription()
    if talk.is_chat:
        counted = at.of(Algorithm.STATISTICS) is ProcessingState.SUCCESS
        message.phrases.extend(chats.phrases(talk.messages, counted=counted))
    for step in at.finished:
        if step.fault or step.algorithm is Algorithm.SPEECHKIT:
            message.algorithms_metadata.append(_trace(talk, step))
    return message


def _trace(talk: StoredTalk, step: Step) -> Any:
    name = step.algorithm.name.lower()
    message = protos.analysis.AlgorithmMetadata(
        created_task_date=timestamp(step.begins),
        completed_task_date=timestamp(step.ends),
        trace_id=hashlib.sha256(f"{talk.id} {name}".encode()).hexdigest()[:16],
        name=name,
    )
    if step.fault:
        message.error.code, message.error.message = step.fault.code, step.fault.message
    return message


def _classifiers(talk: StoredTalk, at: Progress, settings: EmulatorSettings) -> Any:
    if not talk.is_chat or at.of(Algorithm.CLASSIFIER) is not ProcessingState.SUCCESS:
        return None
    return classifiers_of(talk, settings)


def classifiers_of(talk: StoredTalk, settings: EmulatorSettings) -> Any:
    """Return the tags of a chat as a TextClassifiers message, computed when first asked for."""
    return once(talk, "text_classifiers", lambda: chats.classify(talk.messages, settings.classifiers))


def _statistics(name: str) -> Callable[[StoredTalk, Progress, EmulatorSettings], Any]:
    def result(talk: StoredTalk, at: Progress, _: EmulatorSettings) -> Any:
        if at.of(Algorithm.STATISTICS) is not ProcessingState.SUCCESS:
            return None
        return statistics_of(talk).get(name)

    return result


def statistics_of(talk: StoredTalk) -> Mapping[str, Any]:
    """Return the statistics messages of a talk by their field's name, computed when first asked for."""

    def compute() -> Mapping[str, Any]:
        if talk.recording is None:
            return chats.statistics(talk.messages)
        return analysis.statistics(talk.recording)

    found: Mapping[str, Any] = once(talk, "statistics", compute)
    return found


def once(talk: StoredTalk, name: str, compute: Callable[[], Any]) -> Any:
    """Return a result of a talk, computed by the first who asks and kept."""
    with talk.lock:
        if name not in talk.results:
            talk.results[name] = compute()
        return talk.results[name]


_PARTS: Mapping[str, Callable[[StoredTalk, Progress, EmulatorSettings], Any]] = {
    "transcription": _transcription,
    "text_classifiers": _classifiers,
    "talk_state": _state,
    **{name: _statistics(name) for name in RESULTS if name.endswith("_statistics")},
}


def _result(name: str, talk: StoredTalk, at: Progress, settings: EmulatorSettings) -> Any:
    # Points, summarization and assistants are made by language models: there is nothing to compute.
    part = _PARTS.get(name)
    return part(talk, at, settings) if part else None
