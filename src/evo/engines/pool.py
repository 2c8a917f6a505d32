"""The engine that runs jobs in persistent worker processes and outlives whatever a job does to its worker.

A worker that raises reports; one that dies, is killed, runs past `max_seconds` or grows past `max_memory_bytes` is
replaced, and its job's outcome carries the cause. Workers are spawned, not forked, and use one torch thread each, so
that a value does not depend on their number. Limits are enforced while an outcome is waited for. Where workers share
GPUs by MPS, a job that lost its GPU is tried again in a worker that shares none, which ends after it: so a kernel that
faults does so alone the second time, and is told from those that it broke.
"""

import math
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import ClassVar

from evo.base.diagnostics import Diagnostic
from evo.dsl.engine import EngineSpec
from evo.engines.crew import Crew
from evo.engines.device import ATTEMPTS_WITH_GPU
from evo.engines.jobs import Failure, Job, Limits, Outcome
from evo.engines.memory import resident_bytes
from evo.engines.mps import MPS
from evo.engines.process import Phase, WorkerProcess

POLL_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 60.0
START_SECONDS = 300.0
ATTEMPTS = 3
"""Workers that a job gets where they die of no doing of its own. One that is running and killed by SIGKILL each time
takes more memory than there is, unless the system says that it had enough."""


class ProcessSpec(EngineSpec):
    """Worker processes of this machine: limits are held, and a job that dies takes nothing with it."""

    kind: ClassVar[str | None] = "process"
    builder: ClassVar[str] = "evo.engines.pool:begin"

    mps: bool = False
    """Whether workers that share a GPU run their kernels on it side by side, by NVIDIA's MPS, instead of in turns."""


class PoolEngine(Crew[WorkerProcess]):
    """Runs jobs in `workers` processes.

    `max_seconds` limits the wall time of a job's function, without the time its module takes to import;
    `max_memory_bytes` limits the resident memory of its process, libraries included; `preload` names the modules that a
    worker imports before it counts as ready; of `gpus` each worker sees one, the one that the fewest others see; `mps`
    lets them share it by a server that ends with this engine. Raises what `MPS` raises.
    """

    def __init__(
        self,
        workers: int,
        max_seconds: float | None = None,
        max_memory_bytes: int | None = None,
        preload: tuple[str, ...] = ("torch",),
        gpus: tuple[str, ...] = (),
        mps: bool = False,
    ) -> None:
        if workers < 1:
            raise ValueError(f"a pool needs at least one worker, not {workers}")
        super().__init__(workers)
        self.max_seconds = max_seconds
        self.max_memory_bytes = max_memory_bytes
        self.preload = preload
        self.gpus = gpus
        self.mps = MPS() if mps else None

    def hire(self) -> WorkerProcess:
        """A new process."""
        return self._hired()

    def _hired(self, is_apart: bool = False) -> WorkerProcess:
        taken = [worker.gpu for worker in self.hands]
        gpu = min(self.gpus, key=taken.count, default=None)
        variables = {} if self.mps is None else self.mps.environment(not is_apart)
        return WorkerProcess(self.preload, gpu, variables, is_apart)

    def take(self, hand: WorkerProcess, job: Job) -> None:
        """Send a job to a process."""
        hand.take(job)

    def collect(self) -> list[Outcome]:
        """Wait until something happens to a busy worker, and give the outcomes that came of it."""
        busy = self.busy()
        wait([end for worker in busy for end in (worker.pipe, worker.process.sentinel)], timeout=self._timeout(busy))
        outcomes = (self._look_at(worker) for worker in busy)
        return [outcome for outcome in outcomes if outcome is not None]

    def _timeout(self, busy: list[WorkerProcess]) -> float:
        if self.max_memory_bytes is not None:
            return POLL_SECONDS
        now = time.monotonic()
        left = min(worker.since + self._limit_seconds(worker) - now for worker in busy)
        return max(0.0, min(left, LONGEST_WAIT_SECONDS))

    def _look_at(self, worker: WorkerProcess) -> Outcome | None:
        job = worker.job
        assert job is not None
        try:
            outcome = worker.poll()
        except (EOFError, OSError):
            return self._on_death(worker, job)
        if outcome is not None and worker.has_lost_gpu:
            return self._on_loss(worker, job, outcome)
        if outcome is not None:
            self._retire(worker)
            return outcome
        failure = self._overrun(worker)
        if failure is None:
            return None
        seconds = time.monotonic() - worker.since
        self.dismiss([worker])
        return Outcome(job.id, None, failure, seconds)

    def _on_death(self, worker: WorkerProcess, job: Job) -> Outcome | None:
        """A worker died. If it was killed from outside or had not begun the job, that gets another worker, some times:
        the death was hardly the job's doing."""
        is_running = worker.phase is Phase.RUNNING
        seconds = time.monotonic() - worker.since if is_running else 0.0
        killer, failure, attempt = worker.was_killed(), worker.death(), worker.attempt
        is_hungry = killer is signal.SIGKILL and is_running and worker.is_out_of_memory()
        self.dismiss([worker])
        if killer is None and is_running and self.mps is not None and not worker.is_apart:
            self._try_apart(worker, job)  # its context may have been broken by another's kernel
            return None
        if attempt < ATTEMPTS and (killer is not None or not is_running):
            self.free().take(job, attempt + 1)
            return None
        if killer is not None and not is_hungry:
            failure = _killed(killer)
        return Outcome(job.id, None, failure, seconds)

    def _on_loss(self, worker: WorkerProcess, job: Job, outcome: Outcome) -> Outcome | None:
        """A worker lost its GPU. The job gets another worker, once: it may have been another's kernel that faulted."""
        self.dismiss([worker])
        if worker.is_apart or (self.mps is None and worker.attempt >= ATTEMPTS_WITH_GPU):
            return outcome
        if self.mps is None:
            self.free().take(job, worker.attempt + 1)
        else:
            self._try_apart(worker, job)
        return None

    def _try_apart(self, worker: WorkerProcess, job: Job) -> None:
        other = self._hired(is_apart=True)
        self.hands.append(other)
        other.take(job, worker.attempt + 1)

    def _overrun(self, worker: WorkerProcess) -> Failure | None:
        if time.monotonic() - worker.since > self._limit_seconds(worker):
            doing = "ran" if worker.phase is Phase.RUNNING else "took to start"
            return Failure("timeout", f"{doing} longer than {self._limit_seconds(worker):g} s")
        if self.max_memory_bytes is None or worker.phase is not Phase.RUNNING:
            return None
        if (self._resident(worker) or 0) <= self.max_memory_bytes:
            return None
        return Failure("memory", f"used more than {self.max_memory_bytes:,} bytes")

    def _limit_seconds(self, worker: WorkerProcess) -> float:
        if worker.phase is not Phase.RUNNING:
            return START_SECONDS
        return math.inf if self.max_seconds is None else self.max_seconds

    def _retire(self, worker: WorkerProcess) -> None:
        """End a worker of one job, or a swollen one: memory that a job left behind must not count against the next."""
        if worker.is_apart or (
            self.max_memory_bytes is not None and (self._resident(worker) or 0) > self.max_memory_bytes / 2
        ):
            self.dismiss([worker])

    def _resident(self, worker: WorkerProcess) -> int | None:
        pid = worker.process.pid
        return None if pid is None else resident_bytes(pid)

    def close(self) -> None:
        """End all workers, and what they shared."""
        super().close()
        if self.mps is not None:
            self.mps.close()

    def dismiss(self, hands: Sequence[WorkerProcess]) -> None:
        """End processes and reap them."""
        for worker in hands:
            self.hands.remove(worker)
            worker.close()


def _killed(killer: signal.Signals) -> Failure:
    """The failure of a job whose workers are ended by somebody else again and again."""
    message = f"workers are killed from outside by {killer.name}, {ATTEMPTS} times in a row"
    help = "see what ends them (a batch system's limit?); nothing is lost"
    return Failure("outside", message, (Diagnostic("EVO606", message, None, help),))


def begin(spec: ProcessSpec, limits: Limits) -> PoolEngine:
    """The engine of a spec."""
    own = limits.workers, limits.max_seconds, limits.max_memory_bytes, limits.preload, limits.gpus
    return PoolEngine(*own, spec.mps)
