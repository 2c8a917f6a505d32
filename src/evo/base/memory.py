"""Memory of the process: telling a failed allocation from other failures, and the most that was used."""

from __future__ import annotations

import math
import sys


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the host or on any device: torch has no one class for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = " ".join(str(error).split())
    return "can't allocate memory" in text or "not enough memory" in text


def peak_bytes() -> float:
    """The most memory that this process has held, in bytes; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(used if sys.platform == "darwin" else used * 1024)
