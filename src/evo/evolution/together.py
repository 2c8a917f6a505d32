"""The evaluation of trials that differ in their seeds alone, trained in one stack: what the trainings of a verdict are.

Which trials are stacked is decided by their documents and the kind of device, never by time, load or the number of
workers; so a run gives the same scores however it is carried out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evo.compiler.compute import step_flops
from evo.engines.jobs import Engine, Job, Outcome
from evo.evolution.documents import document_of
from evo.evolution.evaluate import Begun, TrialJob, begin, evaluate
from evo.evolution.trial import Evaluation
from evo.evolution.verdict import Training
from evo.training.loop import BudgetError
from evo.training.stacked import Stack, StackError, pays

EVALUATE_TOGETHER = "evo.evolution.together:evaluate_together"
"""The name by which engines call `evaluate_together`."""


def stackable(trainings: Sequence[Training], device: str) -> list[list[Training]]:
    """The trainings of a verdict in groups that are worth stacking on a device, in their order.

    Those of one candidate from one start are one plan with several seeds.
    """
    groups: dict[tuple[str, ...], list[Training]] = {}
    for row in trainings:
        document = document_of(row.document)
        own = () if pays(document.train, step_flops(document), device) else (str(row.seed),)
        groups.setdefault((row.candidate, row.arm, *own), []).append(row)
    return list(groups.values())


def outcomes(
    groups: Sequence[Sequence[str]], jobs: Mapping[str, TrialJob], engine: Engine, alone: str
) -> Iterator[list[Outcome]]:
    """What became of jobs, by group as they end. A group whose stack gave nothing is carried out one by one, by the
    function called `alone`, as one of them may have brought the others down; each is a group of its own then."""
    by_first = {group[0]: group for group in groups}
    failed: list[str] = []
    for outcome in engine.map(_job(group, jobs, alone) for group in groups):
        group, values = by_first[outcome.id], outcome.value
        if len(group) == 1:
            yield [outcome]
        elif isinstance(values, tuple) and len(values) == len(group):
            yield [Outcome(id, value, None, outcome.seconds) for id, value in zip(group, values, strict=True)]
        else:
            failed += group
    for outcome in engine.map(_job([id], jobs, alone) for id in failed):
        yield [outcome]


def _job(group: Sequence[str], jobs: Mapping[str, TrialJob], alone: str) -> Job:
    if len(group) == 1:
        return Job(group[0], alone, jobs[group[0]])
    return Job(group[0], EVALUATE_TOGETHER, tuple(jobs[id] for id in group))


def evaluate_together(jobs: tuple[TrialJob, ...]) -> tuple[Evaluation, ...]:
    """`evaluate` of each, trained in one stack, or one after another where that cannot be.

    Jobs begin at step 0 and leave no state. Their seconds count together.

    Raises:
        OutsideError: as `evaluate`.
    """
    assert not any(job.state or job.is_kept for job in jobs), "a stack begins at step 0 and leaves no state"
    begun = [begin(job, "eager") for job in jobs]
    ready = [row for row in begun if isinstance(row, Begun)]
    try:
        stack = Stack([row.trainer for row in ready]) if len(ready) > 1 else None
    except StackError:
        stack = None
    if stack is None:
        return tuple(evaluate(job) for job in jobs)
    trained = iter(_trained(stack, ready))
    return tuple(next(trained) if isinstance(row, Begun) else row for row in begun)


def _trained(stack: Stack, ready: list[Begun]) -> list[Evaluation]:
    seconds = [row.job.max_seconds for row in ready if row.job.max_seconds is not None]
    try:
        failures = stack.run(None, [row.note for row in ready], sum(seconds) if seconds else None)
    except BudgetError as error:
        return [row.failed(error) for row in ready]
    pairs = zip(ready, failures, strict=True)
    return [row.measured() if failure is None else row.failed(failure) for row, failure in pairs]
