"""What leaves the client: enums and small frozen records. Talks themselves are plain dicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ProcessingState(StrEnum):
    """How far the service is, with a talk or with one algorithm on it. Names are the API's."""

    UNSPECIFIED = "PROCESSING_STATE_UNSPECIFIED"
    NOT_STARTED = "PROCESSING_STATE_NOT_STARTED"
    PROCESSING = "PROCESSING_STATE_PROCESSING"
    SUCCESS = "PROCESSING_STATE_SUCCESS"
    FAILED = "PROCESSING_STATE_FAILED"


class Algorithm(StrEnum):
    """The analyses that a talk may go through. Users write the names without the API's prefix."""

    SPEECHKIT = "ALGORITHM_SPEECHKIT"
    YGPT = "ALGORITHM_YGPT"
    CLASSIFIER = "ALGORITHM_CLASSIFIER"
    SUMMARIZATION = "ALGORITHM_SUMMARIZATION"
    EMBEDDING = "ALGORITHM_EMBEDDING"
    STATISTICS = "ALGORITHM_STATISTICS"
    ASSISTANT = "ALGORITHM_ASSISTANT"


@dataclass(frozen=True)
class TalkStatus:
    """The state of one talk.

    :param algorithms: state by algorithm name without prefix; an algorithm that the service
        did not list is not in it
    """

    talk_id: str
    state: ProcessingState
    algorithms: Mapping[str, ProcessingState] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """A long-running operation of the service.

    :param metadata: what it works on, as a plain dict; for UploadBadge it has ``badge_id``
    :param response: its result as a plain dict, once it succeeded
    :param error: why it failed, in words; may be set before ``done``, while work is rolled back
    """

    id: str
    done: bool = False
    description: str = ""
    created_at: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    response: Mapping[str, Any] | None = None
    error: str | None = None
    error_code: str | None = None
