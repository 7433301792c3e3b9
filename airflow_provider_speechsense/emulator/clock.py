"""Time that a test moves by hand."""

from __future__ import annotations

import threading


class ManualClock:
    """A clock that stands still until ``advance`` is called; give it as ``EmulatorSettings.clock``.

    :param start: seconds since 1970; the default is 2025-06-01 00:00 UTC
    """

    def __init__(self, start: float = 1_748_736_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds``, never backwards."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back by {-seconds} s")
        with self._lock:
            # In whole microseconds, so that ten times 0.1 s is 1 s.
            self._now = round(self._now + seconds, 6)
