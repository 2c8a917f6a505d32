"""The engine that runs every job in this process: for debugging, and where processes are not to be had."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import ClassVar, Self

from evo.base.diagnostics import Diagnostic
from evo.dsl.engine import EngineSpec
from evo.engines.device import is_lost
from evo.engines.jobs import Failure, Job, Limits, Outcome, explain, find_function, one_thread, run_job, without_device

GONE = Diagnostic(
    "EVO606", "a kernel faulted, and this process cannot use the GPU any more", None, "`evo resume` the run"
)


class InlineSpec(EngineSpec):
    """One job after the other in the process of the search itself, without limits."""

    kind: ClassVar[str | None] = "inline"
    builder: ClassVar[str] = "evo.engines.inline:begin"
    has_workers: ClassVar[bool] = False


class InlineEngine:
    """Runs jobs here, one torch thread as in a worker. It cannot stop a job that hangs, grows or ends the process."""

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Run each job when its outcome is asked for; outcomes come in the order of the jobs.

        After one that broke the GPU for this process the others fail from outside.
        """
        for job in jobs:
            if is_lost():
                yield Outcome(job.id, None, Failure("outside", GONE.message, (GONE,)), 0.0)
            else:
                outcome = run_here(job)
                yield without_device(outcome) if is_lost() else outcome

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def begin(spec: InlineSpec, limits: Limits) -> InlineEngine:
    """The engine of a spec; it knows no limits."""
    del spec, limits
    return InlineEngine()


def run_here(job: Job) -> Outcome:
    """Run one job in this process, on one torch thread."""
    try:
        function = find_function(job.function)
    except Exception as error:
        return Outcome(job.id, None, explain(error), 0.0)
    with one_thread():
        return run_job(job, function)
