"""The engine that runs jobs on a Ray cluster: one actor a worker, placed by what it declares that it needs.

A job and its weights travel through Ray's object store, once however often the job is tried. An actor that runs past
`max_seconds` is killed and replaced; one that dies with its node has its job tried elsewhere, because a lost node says
nothing about the job; one that dies alone is the job's doing. Ray is optional: `pip install ray`.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.dsl.engine import EngineSpec
from evo.engines.crew import Crew
from evo.engines.device import ATTEMPTS_WITH_GPU, is_lost
from evo.engines.inline import run_here
from evo.engines.jobs import Failure, Job, Limits, Outcome, answered, explain, without_device

if TYPE_CHECKING:
    from ray import ObjectRef  # pyright: ignore[reportMissingImports]

ATTEMPTS = 5
"""Nodes that a job may lose."""
POLL_SECONDS = 1.0
START_SECONDS = 300.0
GONE_SECONDS = 15.0
"""How long the cluster may take to notice that a node is gone."""
GIB = 2**30


class RaySpec(EngineSpec):
    """Actors of a Ray cluster, on as many machines as it has. `workers` says how many run at once."""

    kind: ClassVar[str | None] = "ray"
    builder: ClassVar[str] = "evo.engines.cluster:begin"

    address: str | None = None
    """Of the cluster, `auto` for the one of this machine; one of its own is started if left out."""
    gpus: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs of each worker: 1 has one to itself, 0.25 shares it with three others."""
    cpus: Annotated[float, Field(ge=0, le=1024)] = 1.0
    """Cores of each worker."""
    memory_gib: Annotated[float, Field(ge=0, le=1_048_576)] = 0.0
    """Memory of each worker, by which it is placed; 0 declares the run's limit, or nothing where it has none."""


class Worker:
    """What runs in an actor. path: the search path of the run's own process, of which folders that are here are added:
    evo itself must be installed on every node."""

    def __init__(self, preload: tuple[str, ...], path: tuple[str, ...]) -> None:
        sys.path += [folder for folder in path if folder not in sys.path and Path(folder).exists()]
        for module in preload:
            importlib.import_module(module)

    def node(self) -> str:
        """Where the actor is."""
        import ray  # pyright: ignore[reportMissingImports]

        return ray.get_runtime_context().get_node_id()

    def run(self, job: Job) -> tuple[bytes, bool]:
        """The outcome, pickled here, so that a value that cannot be is a failure like any other; and whether the actor
        is of no use any more, as it has lost its GPU."""
        outcome, has_lost_gpu = run_here(job), is_lost()
        if has_lost_gpu:
            outcome = without_device(outcome)
        try:
            return pickle.dumps(outcome), has_lost_gpu
        except Exception as error:
            failure = Failure("error", f"the job's value cannot be pickled: {explain(error).message}")
            return pickle.dumps(Outcome(job.id, None, failure, outcome.seconds)), has_lost_gpu


@dataclass
class Lane:
    """One worker. node: where it is, empty until it has told; result: what it was asked for last, at `since`."""

    actor: Any
    job: Job | None = None
    payload: ObjectRef | None = None
    node: str = ""
    result: ObjectRef | None = None
    attempt: int = 1
    since: float = field(default_factory=time.monotonic)


class RayEngine(Crew[Lane]):
    """Runs jobs on `limits.workers` actors of a cluster.

    `limits.max_seconds` counts from when an actor is ready. `limits.max_memory_bytes` is what an actor declares; Ray
    itself ends what takes more than its node has.
    """

    def __init__(self, spec: RaySpec, limits: Limits) -> None:
        super().__init__(limits.workers)
        self.spec, self.limits = spec, limits
        self.ray = _ray()
        self._began = not self.ray.is_initialized()
        if self._began:
            self._connect()

    def close(self) -> None:
        """End all actors, and the cluster if it is this engine's own."""
        super().close()
        if self._began and self.ray.is_initialized():
            self.ray.shutdown()
            self._began = False

    def _connect(self) -> None:
        own = {} if self.spec.address else {"num_cpus": max(1, round(self.spec.cpus * self.limits.workers))}
        try:
            self.ray.init(address=self.spec.address, log_to_driver=False, include_dashboard=None, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            message = f"no Ray cluster at {self.spec.address!r}: {' '.join(str(error).split())[:300]}"
            raise DiagnosticError([Diagnostic("EVO607", message, None, "`ray start --head` starts one")]) from None

    def hire(self) -> Lane:
        """A new actor, placed by what it declares."""
        spec, memory = self.spec, self.limits.max_memory_bytes
        declared = int(spec.memory_gib * GIB) or memory
        options: dict[str, Any] = {"num_cpus": spec.cpus, "num_gpus": spec.gpus, "max_restarts": 0}
        if declared:
            options["memory"] = declared
        return Lane(self.ray.remote(Worker).options(**options).remote(self.limits.preload, tuple(sys.path)))

    def take(self, hand: Lane, job: Job) -> None:
        """Store a job and give it to an actor."""
        self._take(hand, job, self.ray.put(job), 1)

    def _take(self, lane: Lane, job: Job, payload: ObjectRef, attempt: int) -> None:
        """Ask where the actor is; the job follows when it has answered, and only then its time runs."""
        lane.job, lane.payload, lane.attempt, lane.since = job, payload, attempt, time.monotonic()
        lane.result = lane.actor.run.remote(payload) if lane.node else lane.actor.node.remote()

    def collect(self) -> list[Outcome]:
        """Wait until something happens, and give the outcomes that came of it."""
        busy = self.busy()
        waited = [lane.result for lane in busy if lane.result is not None]
        ready, _ = self.ray.wait(waited, num_returns=1, timeout=POLL_SECONDS)
        if ready:  # all that is there by now
            ready, _ = self.ray.wait(waited, num_returns=len(waited), timeout=0)
        found = (self._look_at(lane, lane.result in ready) for lane in busy)
        return [outcome for outcome in found if outcome is not None]

    def _look_at(self, lane: Lane, is_ready: bool) -> Outcome | None:
        job = lane.job
        assert job is not None
        assert lane.result is not None
        if not is_ready:
            return self._overrun(lane, job)
        try:
            value = self.ray.get(lane.result)
        except self.ray.exceptions.RayError as error:
            return self._on_death(lane, job, error)
        if not lane.node:
            lane.node, lane.since = value, time.monotonic()
            lane.result = lane.actor.run.remote(lane.payload)
            return None
        message, has_lost_gpu = value
        outcome, payload = _read(job, message), lane.payload
        lane.job = lane.payload = lane.result = None
        return self._on_loss(lane, job, payload, outcome) if has_lost_gpu else outcome

    def _overrun(self, lane: Lane, job: Job) -> Outcome | None:
        seconds, limit = time.monotonic() - lane.since, self.limits.max_seconds
        if not lane.node:
            if seconds <= START_SECONDS:
                return None
            self.dismiss([lane])
            need = f"{self.spec.cpus:g} cores, {self.spec.gpus:g} GPUs"
            message = f"no node of the cluster had room for a worker ({need}) for {START_SECONDS:g} s"
            return Outcome(job.id, None, _outside("EVO607", message, "`ray status` tells what the nodes have"), 0.0)
        if limit is None or seconds <= limit:
            return None
        self.dismiss([lane])
        return Outcome(job.id, None, Failure("timeout", f"ran longer than {limit:g} s"), seconds)

    def _on_death(self, lane: Lane, job: Job, error: Exception) -> Outcome | None:
        """An actor died: with its node, of memory, or by what its job did."""
        payload, attempt, seconds = lane.payload, lane.attempt, time.monotonic() - lane.since
        assert payload is not None
        is_lost = not lane.node or isinstance(error, self.ray.exceptions.ObjectLostError) or self._is_gone(lane.node)
        self.dismiss([lane])
        if is_lost and attempt < ATTEMPTS:
            self._take(self.free(), job, self.ray.put(job), attempt + 1)
            return None
        if is_lost:
            message = f"nodes of the cluster are lost, {ATTEMPTS} times in a row"
            return Outcome(
                job.id, None, _outside("EVO606", message, "nothing is lost; resume when it is well"), seconds
            )
        if isinstance(error, self.ray.exceptions.OutOfMemoryError):
            return Outcome(job.id, None, Failure("memory", "took more memory than its node has"), seconds)
        return Outcome(job.id, None, Failure("crash", "the worker ended by itself"), seconds)

    def _on_loss(self, lane: Lane, job: Job, payload: ObjectRef | None, outcome: Outcome) -> Outcome | None:
        """An actor lost its GPU. The job gets another one, once: it may have been another's kernel that faulted."""
        assert payload is not None
        self.dismiss([lane])
        if lane.attempt >= ATTEMPTS_WITH_GPU:
            return outcome
        self._take(self.free(), job, payload, lane.attempt + 1)
        return None

    def _is_gone(self, node: str) -> bool:
        """Whether a node has left the cluster, which takes a while to be noticed."""
        end = time.monotonic() + GONE_SECONDS
        while time.monotonic() < end:
            if node not in {row["NodeID"] for row in self.ray.nodes() if row["Alive"]}:
                return True
            if len(self.ray.nodes()) == 1:
                return False
            time.sleep(POLL_SECONDS / 2)
        return False

    def dismiss(self, hands: Sequence[Lane]) -> None:
        """Kill actors."""
        for lane in hands:
            self.hands.remove(lane)
            self.ray.kill(lane.actor, no_restart=True)


def _read(job: Job, message: bytes) -> Outcome:
    try:
        return answered(job, pickle.loads(message))
    except Exception as error:
        return Outcome(job.id, None, Failure("error", f"the job's value cannot be read: {explain(error).message}"), 0.0)


def _outside(code: str, message: str, help: str) -> Failure:
    return Failure("outside", message, (Diagnostic(code, message, None, help),))


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ImportError:
        message, help = "the engine `ray` needs the package ray", "`pip install 'evo-pseudopod[ray]'`"
        raise DiagnosticError([Diagnostic("EVO607", message, None, help)]) from None
    return ray


def begin(spec: RaySpec, limits: Limits) -> RayEngine:
    """The engine of a spec.

    Raises:
        DiagnosticError: Ray is not installed, or there is no cluster at the address (EVO607).
    """
    return RayEngine(spec, limits)
