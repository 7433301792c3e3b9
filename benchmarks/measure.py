"""What the measured processes share."""

from __future__ import annotations

import json
import resource
from pathlib import Path


def resident_bytes() -> int:
    """Return this process's resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def report(seconds: float, before: int) -> None:
    """Print what run.py reads: seconds, and bytes of peak memory beyond ``before``."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "grown": peak - before}))
