from __future__ import annotations

from tests.helpers import clock, connect, emulator, instant_retries, our_time  # noqa: F401 - fixtures
