"""Jobs and their outcomes: what every engine takes and gives, and how one job is run in the current process."""

from __future__ import annotations

import errno
import importlib
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.memory import is_out_of_memory
from evo.dsl.engine import EngineSpec

Cause = Literal["error", "timeout", "memory", "crash", "outside"]
"""`outside`: what stands around the job failed, so nothing is known of the job itself."""
SYSTEM_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE})
"""Of an OSError that is no job's doing: a full or broken disk, too many open files."""
MESSAGE_CHARACTERS = 500


@dataclass(frozen=True)
class Job:
    """One call: `function` is 'package.module:name', `payload` its only argument, `id` returns in the outcome."""

    id: str
    function: str
    payload: Any = None


class OutsideError(DiagnosticError):
    """What a job needs is missing, broken, or not what it was: no verdict on the job, which may be tried again."""


@dataclass(frozen=True)
class Failure:
    """Why a job has no value. `message` is one line without addresses, times or machine paths, so that runs repeat.

    diagnostics: what to tell the user where the cause is `outside`.
    """

    cause: Cause
    message: str
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a value, or a failure. `seconds` is the wall time of the function alone."""

    id: str
    value: Any
    failure: Failure | None
    seconds: float


@dataclass(frozen=True)
class Limits:
    """What an engine may use, as far as it can hold to it.

    workers: jobs at once, at least 1. max_seconds: wall time of one job. max_memory_bytes: of one worker. preload:
    modules that a worker imports before its first job. gpus: among which workers of this machine are dealt out, as
    CUDA_VISIBLE_DEVICES names them; empty where each may see all that this process sees.
    """

    workers: int = 1
    max_seconds: float | None = None
    max_memory_bytes: int | None = None
    preload: tuple[str, ...] = ("torch",)
    gpus: tuple[str, ...] = ()


class Engine(Protocol):
    """A place where jobs run. A context manager that closes it."""

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Run the jobs, taking them lazily, and yield one outcome each in the order in which they end."""
        ...

    def close(self) -> None:
        """End every worker. Closing twice is allowed."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_engine(spec: EngineSpec, limits: Limits) -> Engine:
    """The engine of a spec. Raises what its kind raises where it cannot be had."""
    return find_function(spec.builder)(spec, limits)


def find_function(name: str) -> Callable[..., Any]:
    """The function called 'package.module:name'. Raises ImportError, ValueError or AttributeError."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"a job's function is 'package.module:name', not '{name}'")
    return getattr(importlib.import_module(module), attribute)


def run_job(job: Job, function: Callable[[Any], Any]) -> Outcome:
    """Call the function and put whatever happens, but a keyboard interrupt, into an outcome."""
    started = time.perf_counter()
    try:
        value, failure = function(job.payload), None
    except (Exception, SystemExit) as error:
        value, failure = None, explain(error)
    return Outcome(job.id, value, failure, time.perf_counter() - started)


def answered(job: Job, outcome: Outcome) -> Outcome:
    """The outcome that a worker sent for a job, or the failure that it sent another job's."""
    if outcome.id == job.id:
        return outcome
    return Outcome(job.id, None, Failure("error", f"the worker answered for job '{outcome.id}'"), outcome.seconds)


def without_device(outcome: Outcome) -> Outcome:
    """The outcome of a job after which its process had lost its GPU: a value of it was made by who knows what."""
    failure = outcome.failure or Failure("crash", "the GPU was lost: a kernel faulted")
    return Outcome(outcome.id, None, failure, outcome.seconds)


def explain(error: BaseException) -> Failure:
    """The failure that an exception stands for; out of memory, on any device, and faults of the system are causes of
    their own."""
    text = " ".join(str(error).split())
    if isinstance(error, OutsideError):
        return Failure("outside", text[:MESSAGE_CHARACTERS], error.diagnostics)
    if isinstance(error, OSError) and error.errno in SYSTEM_FAULTS:
        return Failure("outside", text[:MESSAGE_CHARACTERS], (Diagnostic("EVO004", f"a worker: {text}"),))
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.replace(chr(92), '/').rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return Failure("memory" if is_out_of_memory(error) else "error", message[:MESSAGE_CHARACTERS] + place)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block, so that sums do not depend on where a job runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
