"""Tile choices: shipped for the GPUs they were measured on, timed once and kept on disk for all others.

The first use of a problem class chooses its tiles for this machine, so that the same inputs give the same bytes in
every process: the process that writes the file first decides, and where no file can be written nothing is tuned.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

Choice = TypeVar("Choice")

SHIPPED_FOR = ("H100", "H200", "H800")
BUDGET_S = 4.0
REPEATS = 5


@dataclass(frozen=True)
class Machine:
    """What a timing depends on besides the problem."""

    gpu: str
    torch: str
    triton: str

    @property
    def has_shipped_tiles(self) -> bool:
        return any(name in self.gpu for name in SHIPPED_FOR)


@cache
def this_machine(index: int) -> Machine:
    import triton

    return Machine(torch.cuda.get_device_name(index), torch.__version__, triton.__version__)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/evo/tiles`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evo" / "tiles"


class TileChoices:
    """The choices of this process, which hold even when their files are lost."""

    def __init__(self) -> None:
        self._made: dict[tuple, Any] = {}

    def tuned(
        self, kernel: str, problem_class: tuple, candidates: Sequence[Choice], launch: Callable[[Choice], Any]
    ) -> Choice:
        """The candidate (a frozen dataclass) with which `kernel` runs problems of `problem_class` on the current GPU.

        `launch` runs the kernel on the caller's tensors, and may do so many times over. The first candidate is the
        default: taken on GPUs with shipped tiles, and where the first use falls into a graph capture, when nothing can
        be timed.
        """
        machine = this_machine(torch.cuda.current_device())
        if machine.has_shipped_tiles or len(candidates) == 1:
            return candidates[0]
        place = (machine, kernel, problem_class)
        if place not in self._made:
            measure = None if torch.cuda.is_current_stream_capturing() else gpu_time_ms
            self._made[place] = autotune(Record.at(cache_folder(), *place, candidates), candidates, launch, measure)
        return self._made[place]


def autotune(
    record: Record, candidates: Sequence[Choice], launch: Callable[[Choice], Any],
    measure: Callable[[Callable[[], Any]], float] | None, clock: Callable[[], float] = time.monotonic,
) -> Choice:  # fmt: skip
    """The recorded choice, or else the fastest candidate, which is then recorded. Without `measure`, the default."""
    known = record.read(candidates)
    if known is not None or not record.is_writable():
        return candidates[0] if known is None else known
    choice = candidates[0] if measure is None else fastest(candidates, launch, measure, clock)
    return record.keep(choice, candidates)


def fastest(
    candidates: Sequence[Choice], launch: Callable[[Choice], Any],
    measure: Callable[[Callable[[], Any]], float], clock: Callable[[], float] = time.monotonic,
) -> Choice:  # fmt: skip
    """The candidate of the lowest `measure`, among those that fit into the budget; compiling counts as time spent.

    The default runs in any case. Another one is begun only if the slowest so far would still end within the budget, or
    while none has run: one that asks for more shared memory or registers than the GPU has is passed over.
    """
    from triton.runtime.errors import OutOfResources

    begun, longest = clock(), 0.0
    times: dict[int, float] = {}
    for i, candidate in enumerate(candidates):
        start = clock()
        if times and start - begun + longest > BUDGET_S:
            break
        try:
            times[i] = measure(lambda candidate=candidate: launch(candidate))
        except OutOfResources:
            continue
        longest = max(longest, clock() - start)
    return candidates[min(times, key=lambda i: times[i])] if times else candidates[0]


def gpu_time_ms(run: Callable[[], Any]) -> float:
    """Median of a few runs after a first one, which compiles."""
    run()
    found = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end))
    return statistics.median(found)


@dataclass(frozen=True)
class Record:
    """The file that holds one choice. Unreadable content counts as none and is replaced."""

    path: Path
    question: str

    @staticmethod
    def at(folder: Path, machine: Machine, kernel: str, problem_class: tuple, candidates: Sequence[Any]) -> Record:
        """One file for each machine, kernel, problem class and list of candidates."""
        asked = [asdict(machine), kernel, problem_class, [asdict(c) for c in candidates]]
        question = json.dumps(asked, default=str)
        return Record(folder / f"{kernel}-{hashlib.sha256(question.encode()).hexdigest()[:16]}.json", question)

    def read(self, candidates: Sequence[Choice]) -> Choice | None:
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict) or found.get("question") != self.question:
            return None
        return next((c for c in candidates if asdict(c) == found.get("choice")), None)  # type: ignore[call-overload]

    def is_writable(self) -> bool:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self.path.parent, os.W_OK)

    def keep(self, choice: Choice, candidates: Sequence[Choice]) -> Choice:
        """Write the choice in one step, unless another process was first: then the other's choice holds."""
        text = json.dumps({"question": self.question, "choice": asdict(choice)})  # type: ignore[call-overload]
        try:
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, suffix=".tmp", delete=False) as file:
                file.write(text)
            try:
                os.link(file.name, self.path)
            except FileExistsError:
                if (first := self.read(candidates)) is not None:
                    return first
                os.replace(file.name, self.path)
            finally:
                Path(file.name).unlink(missing_ok=True)
        except OSError:
            return candidates[0]
        return choice
