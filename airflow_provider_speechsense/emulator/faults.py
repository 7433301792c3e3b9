"""What a script can make go wrong, and when."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TypeVar

import grpc

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.models import Algorithm

#: What an answer may fail with.
_CODES = tuple(code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)
#: The analyses that the emulator does.
_ALGORITHMS = (Algorithm.SPEECHKIT, Algorithm.STATISTICS, Algorithm.CLASSIFIER)
_ALGORITHM_NAMES = ", ".join(algorithm.name for algorithm in _ALGORITHMS)


def _check_code(code: str | None) -> None:
    if code is not None and code not in _CODES:
        raise ValueError(f"{code!r} is no status of a failure; they are {', '.join(_CODES)}")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to calls of one method. Of several faults the first that is due takes the call.

    :param method: ``TalkService/Get``, or ``*`` for every method
    :param code: the call is answered with this status; None answers it as usual
    :param details: the text that goes with the code
    :param retry_after_seconds: when to come back, sent as google.rpc.RetryInfo
    :param count: so many calls are struck; None strikes all
    :param after: so many calls are let through first
    :param after_bytes: of a stream, so many bytes are read before the code is sent
    :param answer_lost: the work is done, and only then the code is sent
    :param stall_seconds: nothing happens for so long; ``math.inf`` lasts until the client gives up
    :param answer_bytes: the answer is padded to this size
    """

    method: str
    code: str | None = None
    details: str = "scripted fault"
    retry_after_seconds: float | None = None
    count: int | None = 1
    after: int = 0
    after_bytes: int = 0
    answer_lost: bool = False
    stall_seconds: float = 0.0
    answer_bytes: int = 0

    def __post_init__(self) -> None:
        if self.method != "*" and self.method not in protos.METHODS:
            raise ValueError(f"{self.method!r} is no method; write it as 'TalkService/Get', or '*' for all")
        _check_code(self.code)
        if self.code is None and not self.stall_seconds and not self.answer_bytes:
            raise ValueError("a fault needs a code, stall_seconds or answer_bytes")
        if self.code is None and (self.answer_lost or self.after_bytes):
            raise ValueError("answer_lost and after_bytes need a code")
        streams = self.method != "*" and protos.METHODS[self.method].client_streaming
        if self.after_bytes and not streams:
            raise ValueError(f"after_bytes needs a method that streams, {self.method} does not")


@dataclass(frozen=True, kw_only=True)
class TalkFault:
    """What happens to talks.

    :param talk_id: a talk already there; None means the next ``count`` talks that are uploaded
    :param algorithm: this analysis fails; a chat has no SPEECHKIT to fail
    :param code: what transcription.algorithms_metadata says of the failure
    :param message: the text with it
    :param hidden_seconds: the talk is unknown to Get and Search for so long after its upload
    :param unknown_state: talk_state has a number that is in no enum of today
    """

    talk_id: str | None = None
    count: int = 1
    algorithm: Algorithm | None = None
    code: str = "INTERNAL"
    message: str = "scripted failure"
    hidden_seconds: float = 0.0
    unknown_state: bool = False

    def __post_init__(self) -> None:
        if self.algorithm and self.algorithm not in _ALGORITHMS:
            raise ValueError(f"the emulator does no {self.algorithm.name}; it does {_ALGORITHM_NAMES}")


@dataclass(frozen=True, kw_only=True)
class BadgeFault:
    """What happens to the operations of the next badges: they fail, and no talks are cut.

    :param before_done: the error is there at once, while the operation still runs to its end
    """

    code: str = "INTERNAL"
    message: str = "scripted failure"
    before_done: bool = False
    count: int = 1

    def __post_init__(self) -> None:
        _check_code(self.code)


_Kind = TypeVar("_Kind", TalkFault, BadgeFault)


class Script:
    """The faults still to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[_Due] = []
        self._talks: list[TalkFault] = []
        self._badges: list[BadgeFault] = []

    def add(self, fault: Fault | TalkFault | BadgeFault) -> None:
        """Have it strike from now on."""
        with self._lock:
            if isinstance(fault, Fault):
                self._calls.append(_Due(fault))
            elif isinstance(fault, TalkFault):
                self._talks += [fault] * fault.count
            else:
                self._badges += [fault] * fault.count

    def clear(self) -> None:
        """Forget all that have not struck yet."""
        with self._lock:
            self._calls.clear()
            self._talks.clear()
            self._badges.clear()

    def for_call(self, method: str) -> Fault | None:
        """Return what strikes this call."""
        with self._lock:
            for due in self._calls:
                if due.strikes(method):
                    return due.fault
        return None

    def for_talk(self) -> TalkFault | None:
        """Return what strikes this new talk."""
        return self._take(self._talks)

    def for_badge(self) -> BadgeFault | None:
        """Return what strikes this new badge."""
        return self._take(self._badges)

    def _take(self, faults: list[_Kind]) -> _Kind | None:
        with self._lock:
            return faults.pop(0) if faults else None


class _Due:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._passes = fault.after
        self._left = fault.count

    def strikes(self, method: str) -> bool:
        if self.fault.method not in ("*", method) or self._left == 0:
            return False
        if self._passes:
            self._passes -= 1
            return False
        if self._left is not None:
            self._left -= 1
        return True
