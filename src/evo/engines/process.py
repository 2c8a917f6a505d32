"""The parent's side of one worker process: start it, hand it a job, poll from it, end it."""

from __future__ import annotations

import pickle
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from multiprocessing import get_context, resource_tracker
from types import MappingProxyType
from typing import Any

from evo.engines.device import VISIBLE
from evo.engines.jobs import Failure, Job, Outcome, answered, explain
from evo.engines.memory import times_out_of_memory
from evo.engines.worker import serve

CLOSE_SECONDS = 2.0
FOREIGN = frozenset(
    getattr(signal, name) for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT") if hasattr(signal, name)
)
"""Signals that come from outside a process: a batch system, a person, the system short of memory."""


class Phase(Enum):
    """What a worker is doing: importing torch, nothing, importing a job's module, running a job."""

    STARTING = "starting"
    IDLE = "idle"
    LOADING = "loading"
    RUNNING = "running"


class WorkerProcess:
    """One spawned process.

    gpu: the only one that it sees; None for all. variables: of its environment, besides. is_apart: whether it serves
    one job, and shares nothing with others. since: when its phase began, on the clock of `time.monotonic`.
    shortages: how often the system had run out of memory when it started. has_lost_gpu: whether it is of no use to
    another job.
    """

    def __init__(
        self,
        preload: tuple[str, ...],
        gpu: str | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
        is_apart: bool = False,
    ) -> None:
        context = get_context("spawn")
        environment = {**variables, **({} if gpu is None else {VISIBLE: gpu})}
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, preload, environment), daemon=True, name="evo-worker"
        )
        with _interrupts_held():
            self.process.start()
        theirs.close()
        self.gpu, self.is_apart = gpu, is_apart
        self.job: Job | None = None
        self.attempt = 1
        self.has_lost_gpu = False
        self.shortages = times_out_of_memory()
        self._message = b""
        self._enter(Phase.STARTING)

    def take(self, job: Job, attempt: int = 1) -> None:
        """Run this job as soon as the worker is ready. `attempt` counts workers. Raises what pickling raises."""
        self._message = pickle.dumps(job)
        self.job, self.attempt = job, attempt
        if self.phase is Phase.IDLE:
            self._hand_over()

    def poll(self) -> Outcome | None:
        """Read what the worker has sent; the outcome if it ended its job. Raises EOFError or OSError if it is gone."""
        while self.pipe.poll():
            answer, *content = self._read()
            if answer in ("refused", "done", "lost"):
                self.has_lost_gpu = answer == "lost"
                return self._finish(content[0])
            if answer == "started":
                self._enter(Phase.RUNNING)
            elif self.job is None:
                self._enter(Phase.IDLE)
            else:
                self._hand_over()
        return None

    def was_killed(self) -> signal.Signals | None:
        """The signal from outside that ended the process, if one did."""
        self.process.join(CLOSE_SECONDS)
        code = self.process.exitcode
        return signal.Signals(-code) if code is not None and -code in FOREIGN else None

    def is_out_of_memory(self) -> bool:
        """Whether the system may have killed the process for want of memory."""
        now = times_out_of_memory()
        return now is None or now != self.shortages

    def death(self) -> Failure:
        """Why the process ended by itself."""
        self.process.join(CLOSE_SECONDS)
        code = self.process.exitcode
        if code is None:
            return Failure("crash", "the worker closed its pipe")
        if code >= 0:
            return Failure("crash", f"the worker exited with status {code}")
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory" if name == "SIGKILL" else ""
        return Failure("crash", f"the worker was killed by {name}{hint}")

    def close(self) -> None:
        """Let the process end by itself if it is idle, or kill it; either way it is gone and reaped afterwards."""
        self.pipe.close()
        if self.phase is Phase.IDLE:
            self.process.join(CLOSE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.process.close()

    def _read(self) -> tuple[Any, ...]:
        message = self.pipe.recv_bytes()
        try:
            return pickle.loads(message)
        except Exception as error:
            return "refused", Failure("error", f"the job's value cannot be read: {explain(error).message}")

    def _finish(self, result: Failure | Outcome) -> Outcome:
        assert self.job is not None
        outcome = result if isinstance(result, Outcome) else Outcome(self.job.id, None, result, 0.0)
        outcome = answered(self.job, outcome)
        self.job = None
        self._enter(Phase.IDLE)
        return outcome

    def _hand_over(self) -> None:
        self._enter(Phase.LOADING)
        try:
            self.pipe.send_bytes(self._message)
        except OSError:
            return  # it died; its sentinel tells the pool

    def _enter(self, phase: Phase) -> None:
        self.phase, self.since = phase, time.monotonic()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A child started here never sees Ctrl-C, not even before it can ignore it; ours arrives when the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it would let interrupts in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
