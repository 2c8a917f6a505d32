"""The report of a search, made from the journal alone, and the two files that hold it."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from evo.base.files import write_atomic
from evo.base.intervals import mean_interval
from evo.dsl.document import parse
from evo.dsl.patch import diff
from evo.dsl.task import Score
from evo.evolution.archives import SPACE
from evo.evolution.candidate import Candidate
from evo.evolution.fitness import Terms
from evo.evolution.journal import Journal
from evo.evolution.noise import Noise
from evo.evolution.rundir import RunDirectory
from evo.evolution.settings import Settings
from evo.evolution.trial import Evaluation, Result, Timing, Trial, latest
from evo.evolution.verdict import verdict
from evo.report.guesses import guessed
from evo.report.html import page
from evo.report.page.figures import duration
from evo.report.planned import planned
from evo.report.record import Credit, Occasion, Report, SnapshotFigures, Step, Trained, Variant
from evo.training.behaviour import MEASURES
from evo.training.curve import Curve


def write_reports(folder: Path) -> Report:
    """Write search_report.json and report.html into a run directory, and return what they say."""
    directory = RunDirectory(folder)
    settings = directory.load()
    journal = Journal(directory.journal_file)
    try:
        report = search_report(directory, settings, journal)
    finally:
        journal.close()
    as_json, as_html = directory.reports
    write_atomic(as_json, json.dumps(report.to_data(), indent=2) + "\n")
    write_atomic(as_html, page(report))
    return report


def search_report(directory: RunDirectory, settings: Settings, journal: Journal) -> Report:
    """Everything that the files tell; a pure function of the journal and the settings, but for `seconds`."""
    primary = settings.primary
    candidates = {c.id: c for c in journal.candidates()}
    trials = journal.evaluations(with_snapshot=False)
    results = {result.trial.candidate.id: result for result in latest(trials)}
    evaluations = {id: result.evaluation for id, result in results.items()}
    terms = {id: journal.terms(result.trial.ref) for id, result in results.items()}
    curves = learning_curves(trials)
    generations, space = journal.generations(), journal.fact(SPACE)
    best = generations[-1].best if generations else None
    return Report(
        run=str(directory.path),
        device=settings.device,
        evolve=settings.evolve,
        primary=primary,
        measures=settings.evolve.measures,
        centroids=space["centroids"] if space else [],
        generations=tuple(generations),
        variants=tuple(
            _variant(directory, c, results.get(c.id), terms.get(c.id), curves.get(c.id, ()), settings)
            for c in candidates.values()
        ),
        elites=elites(journal),
        best=best,
        best_scored=generations[-1].best_scored if generations else None,
        lineage=lineage(best, candidates, evaluations, primary) if best else (),
        diff_from_seed=diff_from_seed(best, candidates) if best else "",
        verdict=verdict(settings, journal),
        operators=operator_credit(candidates, evaluations, primary),
        failures=dict(Counter(e.cause for e in evaluations.values() if e.cause)),
        snapshots=snapshot_figures(evaluations.values()),
        trained=trained_figures(trials),
        occasion=occasion(directory, journal.timings().values()),
        noise=noise(trials, primary),
        warnings=tuple(journal.fact("warnings") or ()),
        surrogate=guessed(journal, settings, evaluations, curves),
        founders={seed: str(founder) for seed, founder in settings.founder_by_seed.items()},
    )


def _variant(
    directory: RunDirectory,
    candidate: Candidate,
    result: Result | None,
    terms: Terms | None,
    curves: tuple[Curve, ...],
    settings: Settings,
) -> Variant:
    plan = planned(candidate.document)
    found = Evaluation("not evaluated") if result is None else result.evaluation
    return Variant(
        id=candidate.id,
        file=str(directory.variant(candidate).relative_to(directory.path)),
        hash=candidate.hash,
        parents=candidate.parents,
        operators=candidate.operators,
        parameters=plan.parameters,
        document=candidate.document,
        flops_per_token=plan.flops_per_token,
        held_values=plan.held_values,
        steps=0 if result is None else result.trial.steps,
        cause=found.cause,
        message=found.message,
        score=None if found.cause else found.scores[settings.primary.name],
        scores=found.scores,
        terms=terms,
        measures=tuple(found.measures[MEASURES.index(name)] for name in settings.evolve.measures if found.measures),
        curves=curves,
        step_flops=plan.step_flops,
        lives=found.lives,
    )


def learning_curves(trials: Mapping[Trial, Evaluation]) -> dict[str, tuple[Curve, ...]]:
    """By candidate, the curve of its first training at each rung, the lowest first."""
    found: dict[str, tuple[Curve, ...]] = {}
    for trial, evaluation in sorted(trials.items(), key=lambda item: item[0].rung):
        if evaluation.curve and not trial.repeat:
            found[trial.candidate.id] = (*found.get(trial.candidate.id, ()), evaluation.curve)
    return found


def elites(journal: Journal) -> dict[int, str]:
    """Cell -> the id of its elite in the result archive: the last that the archive let hold the cell. Who is placed
    again leaves the cell that it held."""
    held: dict[int, str] = {}
    cells: dict[str, int] = {}
    for placed in journal.placements():
        if placed.archive == "result":
            id = placed.trial.candidate
            if held.get(cells.get(id, -1)) == id:
                del held[cells[id]]
            if placed.is_elite:
                held[placed.cell], cells[id] = id, placed.cell
    return dict(sorted(held.items()))


def lineage(
    best: str, candidates: Mapping[str, Candidate], evaluations: Mapping[str, Evaluation], primary: Score
) -> tuple[Step, ...]:
    """The line of first parents from the seed to the best, oldest first, each with its patch."""
    line: list[Step] = []
    id: str | None = best
    while id is not None:
        candidate = candidates[id]
        parent = candidate.parents[0] if candidate.parents else None
        patch = "" if parent is None else _patch(candidates[parent], candidate)
        line.append(Step(id, candidate.operators, evaluations[id].scores[primary.name], patch))
        id = parent
    return tuple(line[::-1])


def diff_from_seed(best: str, candidates: Mapping[str, Candidate]) -> str:
    """The patch from the first seed of the best one's line to the best, as `evo diff` prints it."""
    seed = best
    while candidates[seed].parents:
        seed = candidates[seed].parents[0]
    return _patch(candidates[seed], candidates[best])


def _patch(before: Candidate, after: Candidate) -> str:
    return str(diff(parse(before.document).document, parse(after.document).document))


def operator_credit(
    candidates: Mapping[str, Candidate], evaluations: Mapping[str, Evaluation], primary: Score
) -> tuple[Credit, ...]:
    """What each operator brought. Children of several operators count for each. A child that inherits weights has been
    trained for longer than its parent: compare operators with each other, not with zero."""
    changes: dict[str, list[float | None]] = {}
    for candidate in candidates.values():
        evaluation = evaluations.get(candidate.id)
        if evaluation is None or not candidate.parents:
            continue
        before = evaluations[candidate.parents[0]].scores[primary.name]
        change = None if evaluation.cause else evaluation.scores[primary.name] - before
        for operator in set(candidate.operators):
            changes.setdefault(operator, []).append(change)
    return tuple(_credit(operator, found, primary) for operator, found in sorted(changes.items()))


def _credit(operator: str, found: list[float | None], primary: Score) -> Credit:
    known = [change for change in found if change is not None]
    return Credit(
        operator=operator,
        children=len(found),
        failed=len(found) - len(known),
        better_than_parent=sum(primary.is_better(change, 0.0) for change in known),
        mean_change=statistics.fmean(known) if known else None,
        half_width=mean_interval(known).half_width if len(known) > 1 else None,
    )


def noise(trials: Mapping[Trial, Evaluation], primary: Score) -> float | None:
    """The standard deviation of one trial's primary score, pooled over candidates that had several at one rung."""
    groups: dict[tuple[str, int], list[float]] = {}
    for trial, evaluation in trials.items():
        if not evaluation.cause:
            groups.setdefault((trial.candidate.id, trial.rung), []).append(evaluation.scores[primary.name])
    spread = Noise()
    for scores in groups.values():
        spread.note(scores)
    return spread.deviation


def occasion(directory: RunDirectory, timings: Iterable[Timing]) -> Occasion:
    """When, where and on what a run was carried out."""
    run_file, spans = directory.run_file(), sorted((t.ended - t.seconds, t.ended) for t in timings)
    wall_s, until = 0.0, -math.inf
    for began, ended in spans:
        wall_s += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return Occasion(
        corpora=tuple(run_file.corpora),
        versions={name: str(value) for name, value in run_file.environment.items() if value is not None},
        began=spans[0][0] if spans else None,
        wall_s=wall_s,
        busy_s=sum(ended - began for began, ended in spans),
    )


def snapshot_figures(evaluations: Iterable[Evaluation]) -> SnapshotFigures | None:
    """Median size against fp32 and median and worst loss after restoring."""
    taken = [e.scores for e in evaluations if e.scores.get("snapshot_bytes")]
    if not taken:
        return None
    increases = [scores["snapshot_increase"] for scores in taken]
    return SnapshotFigures(
        median_ratio=statistics.median(scores["fp32_bytes"] / scores["snapshot_bytes"] for scores in taken),
        median_increase=statistics.median(increases),
        worst_increase=max(increases),
    )


def trained_figures(trials: Mapping[Trial, Evaluation]) -> Trained:
    """What was trained, by the plans; failures left out."""
    tokens, flops = 0, 0.0
    for trial, evaluation in trials.items():
        if evaluation.cause:
            continue
        plan, steps = planned(trial.candidate.document), trial.steps - trial.done
        tokens += steps * plan.step_tokens
        flops += steps * plan.step_flops
    return Trained(tokens, flops)


def summary_lines(report: Report) -> list[str]:
    """What a person reads after a search."""
    label, best, leader, seed = report.primary.label, report.best_variant, report.leader, report.best_seed
    if best is None or leader is None or seed is None:
        return [f"report: {report.run}/report.html"]
    lines = [
        f"best variant: {best.file}, objective {best.objective:.4f}, {best.score:.4f} held-out {label} "
        f"(best seed: {seed.score:.4f} at the same budget)",
    ]
    if leader.id != best.id:
        lines.append(f"{report.primary.superlative} {label}: {leader.file}, {leader.score:.4f}")
    for variant in dict.fromkeys((best.id, leader.id)):
        if report.by_id[variant].scores.get("suspicious"):
            lines.append(
                f"suspicious: variant {variant} scores better than is plausible for this text, "
                "although no leak was found at any position"
            )
    said = report.conclusion
    lines += [f"verdict: {said.title}", *(f"  {sentence}" for sentence in said.sentences)]
    if report.snapshots:
        lines.append(
            f"snapshots: {report.snapshots.median_ratio:.0f}x smaller than fp32 (median), loss after restoring "
            f"{report.snapshots.median_increase:+.2%} (median), {report.snapshots.worst_increase:+.2%} (worst)"
        )
    if report.surrogate and report.surrogate.correlation is not None:
        own = report.surrogate
        chosen = f"the {label} of the {own.count} candidates that it chose"
        lines.append(f"surrogate {own.kind}: rank correlation {own.correlation:+.2f} with {chosen}")
    lines.append(f"evaluations took {duration(report.occasion.busy_s)}, summed over workers")
    lines.append(f"report: {report.run}/report.html")
    return lines
