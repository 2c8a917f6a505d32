"""Telling a failed allocation from other failures."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the host or on any device: torch has no one class for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = " ".join(str(error).split())
    return "can't allocate memory" in text or "not enough memory" in text
