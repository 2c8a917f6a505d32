"""What workers tell, which is believed only where it can be true."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from evo.archive.snapshot.blob import metadata_of
from evo.archive.snapshot.record import SnapshotError
from evo.dsl.task import Score
from evo.engines.jobs import Outcome
from evo.evolution.evaluate import outcome_of
from evo.evolution.trial import Evaluation


def told(outcome: Outcome, primary: Score, *, measures: int = 0) -> Evaluation:
    """What a job gave, or the cause of its failure: an `error` where what it gave cannot be.

    Broken memory, another version on a node, or a foreign evaluation may give anything; one number that is none would
    go into means, archives and children. measures: how many there have to be, beside the evenness of gradients;
    0 where none are needed.

    Raises:
        DiagnosticError: the failure was none of the job's doing.
    """
    if outcome.failure is None:
        lie = next(_lies(outcome, primary, measures), None)
        if lie is not None:
            return Evaluation("error", f"the worker's answer cannot be true: {lie}")
    return outcome_of(outcome)


def _lies(outcome: Outcome, primary: Score, measures: int) -> Iterator[str]:
    found = outcome.value
    if not isinstance(found, Evaluation):
        yield f"it is of the type {type(found).__name__}"
        return
    yield from untrue(found, primary, measures)
    if found.snapshot and not found.cause:
        yield from _lies_of(found.snapshot, outcome.id)


def untrue(found: Evaluation, primary: Score, measures: int) -> Iterator[str]:
    """The numbers that are missing in an evaluation, or are none; see `told`. A failure needs none."""
    if found.cause:
        return
    names = {primary.name: primary.label, **({"gradient_evenness": "gradient evenness"} if measures else {})}
    for name, label in names.items():
        score = found.scores.get(name)
        if score is None or not isfinite(score):
            yield f"its {label} is {score}"
    if measures and (len(found.measures) != measures or not all(map(isfinite, found.measures))):
        yield f"its measures are {', '.join(f'{value:g}' for value in found.measures) or 'missing'}"


def _lies_of(snapshot: bytes, id: str) -> Iterator[str]:
    """What is wrong with the snapshot of a trial of that name."""
    try:
        metadata = metadata_of(snapshot)
    except SnapshotError as error:
        yield str(error)
        return
    candidate = metadata.get("candidate")
    if candidate is not None and not id.startswith(candidate):
        yield f"its snapshot is of candidate {candidate}"
