"""SIGTERM as an exception, so that work is put away as on Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
"""The exit status of a program that SIGTERM ended."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM came. Treated as Ctrl-C by whatever does not ask for more."""


@contextmanager
def termination_raised() -> Generator[None]:
    """Inside the block SIGTERM raises `TerminatedError`. In threads other than the main one nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise TerminatedError
