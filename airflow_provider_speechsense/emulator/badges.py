"""Badge recordings: where they are cut into talks, and the operation that does it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import grpc

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator.answers import timestamp
from airflow_provider_speechsense.emulator.recordings import Recording
from airflow_provider_speechsense.emulator.settings import EmulatorSettings
from airflow_provider_speechsense.emulator.speech import duration_ms, spans, utterances
from airflow_provider_speechsense.emulator.store import StoredOperation

_messages = protos.speechsense


def cut(recording: Recording, pause_seconds: float) -> list[Recording]:
    """Cut a recording in the middle of each pause of at least ``pause_seconds``.

    What cannot be looked into, MP3, stays whole. Where nobody speaks at all, there are no talks.
    """
    if not recording.is_pcm:
        return [recording]
    channels = utterances(recording)
    if not any(channels):
        return []
    end = duration_ms(recording)
    silences = spans(channels, end, lambda speakers: speakers == 0)
    # The silence before the first word and after the last divides nothing.
    pauses = [(since, until) for since, until in silences if since > 0 and until < end]
    cuts = [(since + until) // 2 for since, until in pauses if until - since >= pause_seconds * 1000]
    return [recording.part(*part) for part in pairwise([0, *cuts, end])]


def operation_message(operation: StoredOperation, settings: EmulatorSettings, now: float) -> Any:
    """Return the operation as it is at ``now``."""
    done_at = operation.done_at if operation.cancelled_at is None else operation.cancelled_at
    done = now >= done_at
    message = protos.operation.Operation(
        id=operation.id,
        description="Upload badge",
        created_at=timestamp(operation.created_at),
        created_by=settings.subject_id,
        modified_at=timestamp(done_at if done else operation.created_at),
        done=done,
    )
    message.metadata.Pack(_messages.UploadBadgeMetadata(badge_id=operation.badge_id))
    fault = operation.fault
    if operation.cancelled_at is not None:
        message.error.code, message.error.message = _number("CANCELLED"), "Operation was cancelled"
    elif fault and (done or fault.before_done):
        message.error.code, message.error.message = _number(fault.code), fault.message
    elif done:
        response = _messages.UploadBadgeResponse(badge_id=operation.badge_id, talk_ids=operation.talk_ids)
        message.response.Pack(response)
    return message


def _number(code: str) -> int:
    number: int = grpc.StatusCode[code].value[0]
    return number
