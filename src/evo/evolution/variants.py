"""The files of a generation's candidates: YAML headed by where it came from and what it scored, and its snapshot."""

from __future__ import annotations

from collections.abc import Mapping

from evo.base.files import write_atomic
from evo.evolution.documents import document_of
from evo.evolution.fitness import Terms
from evo.evolution.rundir import RunDirectory
from evo.evolution.trial import Evaluation, Result, WeightsRef


def write_variants(directory: RunDirectory, results: list[Result], terms: Mapping[WeightsRef, Terms]) -> None:
    """Write one variant a result into the run directory, over what stands there."""
    for result in results:
        candidate, snapshot = result.trial.candidate, result.evaluation.snapshot
        path = directory.variant(candidate)
        if snapshot:
            write_atomic(path.with_suffix(".safetensors"), snapshot)
        write_atomic(path, header(result, terms.get(result.trial.ref)) + candidate.document)


def header(result: Result, terms: Terms | None) -> str:
    """The comment lines above a variant."""
    candidate, evaluation = result.trial.candidate, result.evaluation
    parents = ", ".join(candidate.parents) or "none (a seed)"
    lines = [f"variant {candidate.id}, content {candidate.hash}", f"parents: {parents}"]
    if candidate.operators:
        lines.append(f"made by: {', '.join(candidate.operators)}")
    if evaluation.cause:
        lines.append(f"no score: {evaluation.cause}: {evaluation.message}")
    else:
        lines += [_score(candidate.document, evaluation, terms) + _times(result), *_snapshot(evaluation)]
    return "".join(f"# {line}\n" for line in lines)


def _score(document: str, evaluation: Evaluation, terms: Terms | None) -> str:
    primary = document_of(document).train.task.primary
    objective = f", objective {terms.objective:.4f}" if terms else ""
    return f"held-out {evaluation.scores[primary.name]:.4f} {primary.label}{objective}"


def _times(result: Result) -> str:
    trial = result.trial
    repeated = f", mean of {result.count} trials" if result.count > 1 else ""
    return f", after {trial.steps:,} steps{repeated}"


def _snapshot(evaluation: Evaluation) -> list[str]:
    if not evaluation.snapshot:
        return []
    scores = evaluation.scores
    ratio = scores["fp32_bytes"] / max(1.0, scores["snapshot_bytes"])
    return [f"snapshot {ratio:.1f}x smaller than fp32, loss after restoring {scores['snapshot_increase']:+.2%}"]
