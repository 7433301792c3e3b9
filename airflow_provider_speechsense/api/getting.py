"""Getting talks in as few calls as the service allows, and reading what comes back."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.convert import to_dict, unpack
from airflow_provider_speechsense.api.models import Operation, ProcessingState, TalkStatus
from airflow_provider_speechsense.api.polling import not_found
from airflow_provider_speechsense.api.status import CODE_NAMES
from airflow_provider_speechsense.exceptions import (
    InvalidRequestError,
    MessageTooLargeError,
    NotFoundError,
    ServiceUnavailableError,
    SpeechSenseError,
)

log = logging.getLogger(__name__)

#: The service's advice; with more, an answer may be over the message limit.
GET_BATCH = 100
#: So many ids refused one by one before any call went through: it is not the ids that are wrong.
_REFUSED_ALONE = 3

#: Gets some talks in one call.
Fetch = Callable[[list[str]], Iterable[Any]]


def talks(fetch: Fetch, ids: list[str]) -> Iterator[dict[str, Any]]:
    """Yield talks as plain dicts.

    :raises NotFoundError: after all that were found, naming the ids that were not
    """
    refused: dict[str, SpeechSenseError] = {}
    for talk in in_batches(fetch, ids, refused):
        yield to_dict(talk)
    for talk_id, error in refused.items():
        if not isinstance(error, NotFoundError):
            error.message = f"Talk {talk_id}: {error.message}"
            raise error
    if refused:
        raise not_found(list(refused))


def available(fetch: Fetch, ids: list[str]) -> Iterator[Any]:
    """Yield the Talk messages that can be had; what is wrong with the others is logged."""
    refused: dict[str, SpeechSenseError] = {}
    yield from in_batches(fetch, ids, refused)
    for talk_id, error in refused.items():
        if not isinstance(error, NotFoundError):
            log.warning("Talk %s: %s", talk_id, error)


def in_batches(fetch: Fetch, ids: list[str], refused: dict[str, SpeechSenseError]) -> Iterator[Any]:
    """Yield the Talk messages of ``ids``, halving a batch that is too large or that one id spoils.

    :param refused: gets the error of each id that the service does not know or cannot give
    :raises SpeechSenseError: what is wrong with the call itself
    """
    batches = [ids[i : i + GET_BATCH] for i in range(0, len(ids), GET_BATCH)]
    batches.reverse()
    succeeded = False
    while batches:
        batch = batches.pop()
        try:
            found = {talk.id: talk for talk in fetch(batch)}
        except SpeechSenseError as error:
            if not _may_be_one_id(error):
                raise
            if len(batch) > 1:
                batches += _split(batch, error, refused)
                continue
            refused[batch[0]] = error
            wrong = sum(not isinstance(e, NotFoundError) for e in refused.values())
            if not succeeded and wrong >= min(_REFUSED_ALONE, len(ids)):
                raise
            continue
        succeeded = True
        for talk_id in batch:
            if talk_id not in found:
                refused[talk_id] = not_found([talk_id])
        yield from found.values()


def _may_be_one_id(error: SpeechSenseError) -> bool:
    """Tell whether an id may be the cause. What the service answers to an unknown one is not documented."""
    if isinstance(error, NotFoundError | InvalidRequestError | MessageTooLargeError):
        return True
    return isinstance(error, ServiceUnavailableError) and error.code in ("INTERNAL", "UNKNOWN")


def _split(
    batch: list[str], error: SpeechSenseError, refused: dict[str, SpeechSenseError]
) -> list[list[str]]:
    """Return what to try instead of ``batch``, the first of it last."""
    words = set(re.findall(r"[\w-]+", error.message))
    if isinstance(error, NotFoundError) and not words.isdisjoint(batch):
        refused.update((talk_id, error) for talk_id in batch if talk_id in words)
        rest = [talk_id for talk_id in batch if talk_id not in words]
        return [rest] if rest else []
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]]


def status_of(talk: Any) -> TalkStatus:
    """Return the state of a Talk message; a value this release does not know is logged and not finished."""
    algorithms = {
        _name(protos.speechsense.Algorithm, info.algorithm, "ALGORITHM_"): _state(info.processing_state)
        for info in talk.talk_state.algorithm_processing_infos
    }
    return TalkStatus(talk.id, _state(talk.talk_state.processing_state), algorithms)


def _state(number: int) -> ProcessingState:
    name = _name(protos.speechsense.ProcessingState, number, "PROCESSING_STATE_")
    return ProcessingState.__members__.get(name, ProcessingState.UNSPECIFIED)


def _name(enum: Any, number: int, prefix: str) -> str:
    """Return the name of an enum's value without its prefix, or the number as text."""
    try:
        return str(enum.Name(number)).removeprefix(prefix)
    except ValueError:
        log.warning(
            "The service answered %s %s, which this release does not know.", prefix.rstrip("_"), number
        )
        return str(number)


def reason_of(talk: Any) -> str | None:
    """Return what the algorithms of a Talk message say went wrong."""
    reasons = []
    for trace in talk.transcription.algorithms_metadata:
        if trace.HasField("error"):
            words = [f"{trace.name or 'an algorithm'}:", trace.error.code, trace.error.message]
            words += [f"(trace id {trace.trace_id})"] if trace.trace_id else []
            reasons.append(" ".join(word for word in words if word))
    return "; ".join(reasons) or None


def operation_of(message: Any) -> Operation:
    """Return an Operation message as a record."""
    failed = message.HasField("error")
    return Operation(
        id=message.id,
        done=message.done,
        description=message.description,
        created_at=message.created_at.ToJsonString() if message.HasField("created_at") else None,
        metadata=unpack(message.metadata) if message.HasField("metadata") else {},
        response=unpack(message.response) if message.HasField("response") else None,
        error=message.error.message if failed else None,
        error_code=CODE_NAMES.get(message.error.code, str(message.error.code)) if failed else None,
    )
