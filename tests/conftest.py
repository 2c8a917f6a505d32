"""What all tests share: `strategies` and `commands` are importable by name, `evo` runs a command.

Hypothesis keeps no deadline, draws the same every time and shows a failing case as it was drawn, for making a document
smaller takes minutes; `pytest --hypothesis-profile=explore` draws anew, to look for faults that the gate does not know,
and makes them small.
"""

import importlib.metadata
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

sys.path.insert(0, str(Path(__file__).parent))

COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", COMMON)
AS_DRAWN = [Phase.explicit, Phase.generate]
settings.register_profile("evo", COMMON, derandomize=True, phases=AS_DRAWN)
settings.load_profile("evo")

MEMORY = "/dev/shm"
ROOM = 2**30
"""Bytes that must be free in memory, several times what the tests keep at once."""


def pytest_configure() -> None:
    """What tests write they write to memory, where there is room and programs may run: a search waits for the disk
    at each of its steps, for longer than it computes. And an interrupt is one: a shell that runs something in the
    background has it ignored, by all that this starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(AttributeError, OSError):  # systems without it
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize > ROOM and not found.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK):
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


@pytest.fixture
def evo(capsysbinary: pytest.CaptureFixture[bytes]):
    """The program: call it with arguments."""
    from commands import Evo

    return Evo(capsysbinary)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mapping[str, str]], None]]:
    """Call it with entry points in `evo.kinds`, by name: a package that has them is installed while the test runs."""
    from evo.dsl import index

    others = importlib.metadata.entry_points  # triton looks for its backends while it is imported

    def forget() -> None:
        index.installed.cache_clear()
        index.kind_class.cache_clear()

    def install(points: Mapping[str, str]) -> None:
        found = [EntryPoint(name, value, "evo.kinds") for name, value in points.items()]

        def entry_points(**wanted: str) -> object:
            return found if wanted == {"group": "evo.kinds"} else others(**wanted)

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        forget()

    yield install
    monkeypatch.undo()
    forget()


@pytest.fixture
def strangers(install: Callable[[Mapping[str, str]], None]) -> None:
    """The package `strangers`, which has kinds of every role, is installed."""
    from strangers import POINTS

    install(POINTS)
