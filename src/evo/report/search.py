"""The report of a search: one plain mapping, from the journal alone, and the two files made of it."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evo.base.files import write_atomic
from evo.compiler.resolve import resolve
from evo.dsl.document import parse
from evo.dsl.patch import diff
from evo.dsl.task import Score
from evo.evolution.candidate import Candidate
from evo.evolution.control import Control, recorded_control
from evo.evolution.fitness import Terms
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory, Settings
from evo.evolution.summary import Summary
from evo.evolution.trial import Evaluation, Trial, latest
from evo.report.html import page
from evo.training.behaviour import MEASURES

REPORT_VERSION = 1


def write_reports(folder: Path) -> dict[str, Any]:
    """Write search_report.json and report.html into a run directory, and return what they say."""
    directory = RunDirectory(folder)
    settings = directory.load()
    journal = Journal(directory.journal_file)
    try:
        report = search_report(directory, settings, journal)
    finally:
        journal.close()
    as_json, as_html = directory.reports
    write_atomic(as_json, json.dumps(report, indent=2) + "\n")
    write_atomic(as_html, page(report))
    return report


def search_report(directory: RunDirectory, settings: Settings, journal: Journal) -> dict[str, Any]:
    """Everything that the files tell; a pure function of the journal and the settings, but for `seconds`."""
    primary = settings.primary
    candidates = {c.id: c for c in journal.candidates()}
    trials = {t: e for t in journal.trials() if (e := journal.evaluation(t.ref, with_snapshot=False)) is not None}
    results = {result.trial.candidate.id: result for result in latest(trials)}
    evaluations = {id: result.evaluation for id, result in results.items()}
    terms = {id: journal.terms(result.trial.ref) for id, result in results.items()}
    generations, control = journal.generations(), recorded_control(journal)
    best = generations[-1].best if generations else None
    return {
        "evo_report": REPORT_VERSION,
        "run": str(directory.path),
        "seed": settings.evolve.seed,
        "device": settings.device,
        "settings": {key: value for key, value in settings.evolve if isinstance(value, (int, float))},
        "fitness": settings.evolve.fitness.model_dump(),
        "score": asdict(primary),
        "measures": list(MEASURES),
        "centroids": journal.fact("centroids"),
        "generations": [_generation(summary, primary) for summary in generations],
        "variants": [
            _variant(directory, c, evaluations.get(c.id), terms.get(c.id), primary) for c in candidates.values()
        ],
        "elites": elites(journal),
        "best": best,
        "best_scored": generations[-1].best_scored if generations else None,
        "lineage": lineage(best, candidates, evaluations, primary) if best else [],
        "diff_from_seed": diff_from_seed(best, candidates) if best else "",
        "control": None if control is None else _control(control, primary),
        "operators": operator_credit(candidates, evaluations, primary),
        "failures": dict(Counter(e.cause for e in evaluations.values() if e.cause)),
        "snapshots": snapshot_figures(list(evaluations.values())),
        "trained": trained_figures(trials),
        "seconds": sum(journal.timings().values()),
    }


def _generation(summary: Summary, primary: Score) -> dict[str, Any]:
    data = asdict(summary)
    return {**data, f"best_{primary.name}": data.pop("best_score")}


def _control(control: Control, primary: Score) -> dict[str, Any]:
    data = asdict(control)
    scores = {f"{who}_{primary.name}": data.pop(f"{who}_score") for who in ("winner", "control")}
    return {**data, **scores}


def _variant(
    directory: RunDirectory, candidate: Candidate, evaluation: Evaluation | None, terms: Terms | None, primary: Score
) -> dict[str, Any]:
    plan = resolve(parse(candidate.document).document.organism)
    data: dict[str, Any] = {
        "id": candidate.id,
        "file": str(directory.variant(candidate).relative_to(directory.path)),
        "hash": candidate.hash,
        "parents": list(candidate.parents),
        "operators": list(candidate.operators),
        "parameters": plan.parameters,
        "flops_per_token": plan.flops_per_token,
        "cause": "not evaluated" if evaluation is None else evaluation.cause,
    }
    if evaluation is None or evaluation.cause:
        return {**data, "message": "" if evaluation is None else evaluation.message}
    scores = {primary.name: evaluation.scores[primary.name], **evaluation.scores}
    return {
        **data,
        **{name: int(value) if name.endswith("_bytes") else value for name, value in scores.items()},
        **(asdict(terms) if terms else {}),
        "measures": list(evaluation.measures),
        "snapshot_ratio": scores["fp32_bytes"] / max(1.0, scores["snapshot_bytes"]),
    }


def elites(journal: Journal) -> dict[str, str]:
    """Cell -> the id of its elite in the result archive: the last that the archive let hold the cell."""
    entered = (p for p in journal.placements() if p.archive == "result" and p.is_elite)
    held = {p.cell: p.trial.candidate for p in entered}
    return {str(cell): held[cell] for cell in sorted(held)}


def lineage(
    best: str, candidates: dict[str, Candidate], evaluations: dict[str, Evaluation], primary: Score
) -> list[dict[str, Any]]:
    """The line of first parents from the seed to the best, oldest first, each with its patch."""
    line: list[dict[str, Any]] = []
    id: str | None = best
    while id is not None:
        candidate = candidates[id]
        parents = candidate.parents
        patch = (
            str(diff(parse(candidates[parents[0]].document).document, parse(candidate.document).document))
            if parents
            else ""
        )
        score = evaluations[id].scores[primary.name]
        line.append({"id": id, "operators": list(candidate.operators), primary.name: score, "patch": patch})
        id = parents[0] if parents else None
    return line[::-1]


def diff_from_seed(best: str, candidates: dict[str, Candidate]) -> str:
    """The patch from the first seed of the best one's line to the best, as `evo diff` prints it."""
    seed = best
    while candidates[seed].parents:
        seed = candidates[seed].parents[0]
    return str(diff(parse(candidates[seed].document).document, parse(candidates[best].document).document))


def operator_credit(
    candidates: dict[str, Candidate], evaluations: dict[str, Evaluation], primary: Score
) -> list[dict[str, Any]]:
    """For each operator: how many children it took part in, how many failed, how many were better than their first
    parent in the primary score, and the mean change. Children of several operators count for each. A child that
    inherits weights has been trained for longer than its parent: compare operators with each other, not with zero."""
    changes: dict[str, list[float | None]] = {}
    for candidate in candidates.values():
        evaluation = evaluations.get(candidate.id)
        if evaluation is None or not candidate.parents:
            continue
        before = evaluations[candidate.parents[0]].scores[primary.name]
        change = None if evaluation.cause else evaluation.scores[primary.name] - before
        for operator in set(candidate.operators):
            changes.setdefault(operator, []).append(change)
    rows: list[dict[str, Any]] = []
    for operator, found in sorted(changes.items()):
        known = [change for change in found if change is not None]
        rows.append({
            "operator": operator,
            "children": len(found),
            "failed": len(found) - len(known),
            "better_than_parent": sum(primary.is_better(change, 0.0) for change in known),
            "mean_change": statistics.fmean(known) if known else None,
        })  # fmt: skip
    return rows


def snapshot_figures(evaluations: list[Evaluation]) -> dict[str, float] | None:
    """Median size against fp32 and median and worst loss after restoring."""
    taken = [e.scores for e in evaluations if e.scores.get("snapshot_bytes")]
    if not taken:
        return None
    increases = [scores["snapshot_increase"] for scores in taken]
    return {
        "median_ratio": statistics.median(scores["fp32_bytes"] / scores["snapshot_bytes"] for scores in taken),
        "median_increase": statistics.median(increases),
        "worst_increase": max(increases),
    }


def trained_figures(trials: dict[Trial, Evaluation]) -> dict[str, float]:
    """Tokens trained on and training FLOPs (three times the forward pass's), by the plans, failures left out."""
    tokens, flops = 0, 0.0
    for trial, evaluation in trials.items():
        if evaluation.cause:
            continue
        document = parse(trial.candidate.document).document
        own = trial.steps * document.train.batch * document.context
        tokens += own
        flops += 3.0 * own * resolve(document.organism).flops_per_token
    return {"tokens": tokens, "flops": flops}


def summary_lines(report: dict[str, Any]) -> list[str]:
    """What a person reads after a search."""
    primary = Score(**report["score"])
    name, label = primary.name, primary.label
    variants = {variant["id"]: variant for variant in report["variants"]}
    best, control = variants[report["best"]], report["control"]
    seeds = [v[name] for v in variants.values() if not v["parents"] and not v["cause"]]
    lines = [
        f"best variant: {best['file']}, objective {best['objective']:.4f}, {best[name]:.4f} held-out {label} "
        f"(best seed: {min(seeds, key=primary.cost):.4f} at the same budget)",
    ]
    leader = variants[report["best_scored"]]
    if leader["id"] != best["id"]:
        lines.append(f"{primary.superlative} {label}: {leader['file']}, {leader[name]:.4f}")
    if control:
        lines.append(_control_line(control, primary))
    figures = report["snapshots"]
    lines.append(
        f"snapshots: {figures['median_ratio']:.0f}x smaller than fp32 (median), loss after restoring "
        f"{figures['median_increase']:+.2%} (median), {figures['worst_increase']:+.2%} (worst)"
    )
    lines.append(f"report: {report['run']}/report.html")
    return lines


def _control_line(control: dict[str, Any], primary: Score) -> str:
    if control["cause"]:
        return f"control: the seed trained for {control['steps']} steps gave no score ({control['cause']})"
    verdict = "the winner beats it" if control["winner_beats_control"] else "the winner does NOT beat it"
    scores = (control[f"{who}_{primary.name}"] for who in ("control", "winner"))
    return (
        f"control: seed {control['seed']} trained for {control['steps']} steps, as many as the winner's ancestry: "
        f"{' against '.join(f'{score:.4f}' for score in scores)}; {verdict}"
    )
