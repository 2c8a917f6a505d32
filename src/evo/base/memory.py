"""Memory of the process: telling a failed allocation from other failures, the most that was used, what is kept."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import sys
from collections.abc import Generator
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of glibc's `mallopt`."""
KEPT_BYTES = 1 << 30


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


@contextlib.contextmanager
def no_collection() -> Generator[None, None, None]:
    """A block in which Python collects no cycles: freeing one CUDA graph while another is captured would end that."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def keep_freed() -> None:
    """Let this process keep up to `KEPT_BYTES` of what it frees for its next allocations, where the C library is glibc.

    By default glibc maps each large tensor anew and the system clears every page of it, which can take longer than
    what is computed.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def return_freed() -> None:
    """Give the system back what `keep_freed` has kept."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
