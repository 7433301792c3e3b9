"""The quota on getting talks: sliding windows, each with its own limit."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from airflow_provider_speechsense.emulator.refusal import Refusal


class Quota:
    """Counts what each project spends.

    A call dearer than a whole window passes when that window is empty: else no such call ever could.

    :param windows: (seconds, limit) of each
    :param clock: seconds since 1970
    """

    def __init__(self, windows: Sequence[tuple[float, int]], clock: Callable[[], float]) -> None:
        self._windows = windows
        self._clock = clock
        self._lock = threading.Lock()
        self._spent: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def spend(self, project: str, cost: int) -> None:
        """Spend ``cost``, or nothing.

        :raises Refusal: a window of the project has no room for it
        """
        if not self._windows:
            return
        with self._lock:
            now, spent = self._clock(), self._spent[project]
            longest = max(seconds for seconds, _ in self._windows)
            while spent and spent[0][0] <= now - longest:
                spent.popleft()
            for seconds, limit in self._windows:
                used = sum(cost for at, cost in spent if at > now - seconds)
                if used and used + cost > limit:
                    text = f"quota limit exceeded: getting dialogs, {limit} per {seconds:g} s for a project"
                    raise Refusal("RESOURCE_EXHAUSTED", text)
            spent.append((now, cost))
