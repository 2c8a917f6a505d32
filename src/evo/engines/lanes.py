"""The engine that runs several jobs at once in this process: a thread each, and on a GPU a stream each.

A small model's step is a chain of small launches that leave most of a GPU idle. Processes take turns on it, a time
slice each; streams of one process fill it together. What torch keeps once for all threads is held by locks where the
training uses it: a capture of a CUDA graph, and the draws of the causality probe.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import ClassVar

from evo.dsl.engine import EngineSpec
from evo.engines.crew import Crew
from evo.engines.jobs import Job, Limits, Outcome, found_and_run, one_thread


class LanesSpec(EngineSpec):
    """Threads of the process of the search itself, a stream of the GPU each: for small models on one GPU, which
    processes only share by turns. `workers` says how many. Nothing stops a job that hangs or ends the process."""

    kind: ClassVar[str | None] = "lanes"
    builder: ClassVar[str] = "evo.engines.lanes:begin"


class Lane:
    """One thread that runs jobs one after another and puts itself with each outcome into `done`."""

    def __init__(self, done: SimpleQueue[tuple[Lane, Outcome]]) -> None:
        self.job: Job | None = None
        self._inbox, self._done = SimpleQueue[Job | None](), done
        self.thread = threading.Thread(target=self._run, name="evo-lane", daemon=True)
        self.thread.start()

    def take(self, job: Job) -> None:
        """Run a job."""
        self.job = job
        self._inbox.put(job)

    def end(self) -> None:
        """Take no job after the one that runs, if one does; nothing can stop that."""
        self._inbox.put(None)

    def _run(self) -> None:
        with _stream():
            while (job := self._inbox.get()) is not None:
                self._done.put((self, found_and_run(job)))


class LanesEngine(Crew[Lane]):
    """Runs jobs in `workers` threads. Jobs are not copied: what a payload holds, all of them share."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._done = SimpleQueue[tuple[Lane, Outcome]]()
        self._threads = contextlib.ExitStack()
        self._threads.enter_context(one_thread())

    def hire(self) -> Lane:
        """A new thread."""
        return Lane(self._done)

    def take(self, hand: Lane, job: Job) -> None:
        """Give a job to a thread."""
        hand.take(job)

    def collect(self) -> Iterator[Outcome]:
        """Wait for the next outcome of a thread that is still waited for."""
        lane, outcome = self._done.get()
        if lane in self.hands:
            lane.job = None
            yield outcome

    def dismiss(self, hands: Sequence[Lane]) -> None:
        """Wait for these threads no more."""
        for lane in hands:
            self.hands.remove(lane)
            lane.end()

    def close(self) -> None:
        """Let all threads end."""
        super().close()
        self._threads.close()


def begin(spec: LanesSpec, limits: Limits) -> LanesEngine:
    """The engine of a spec; of limits it knows the number of workers."""
    del spec
    return LanesEngine(limits.workers)


def _stream() -> contextlib.AbstractContextManager[object]:
    """A stream of its own for what a thread launches on the current GPU, where there is one."""
    import torch

    return torch.cuda.stream(torch.cuda.Stream()) if torch.cuda.is_available() else contextlib.nullcontext()
