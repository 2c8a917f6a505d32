"""The report of a search: one plain mapping, from the journal alone, and the two files made of it."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from evo.base.files import write_atomic
from evo.compiler.resolve import resolve
from evo.dsl.document import parse
from evo.dsl.patch import diff
from evo.evolution.evaluate import Evaluation
from evo.evolution.journal import Candidate, Journal
from evo.evolution.rundir import RunDirectory, Settings
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
    candidates = {c.id: c for c in journal.candidates()}
    evaluations = {id: e for id in candidates if (e := journal.evaluation(id, with_snapshot=False)) is not None}
    scores = journal.scores()
    generations = journal.generations()
    best = generations[-1]["best"] if generations else None
    return {
        "evo_report": REPORT_VERSION,
        "run": str(directory.path),
        "seed": settings.evolve.seed,
        "device": settings.device,
        "settings": {key: value for key, value in settings.evolve if isinstance(value, (int, float))},
        "fitness": settings.evolve.fitness.model_dump(),
        "measures": list(MEASURES),
        "centroids": journal.fact("centroids"),
        "generations": generations,
        "variants": [_variant(directory, c, evaluations.get(c.id), scores.get(c.id)) for c in candidates.values()],
        "elites": elites(journal),
        "best": best,
        "best_bits": generations[-1]["best_bits"] if generations else None,
        "lineage": lineage(best, candidates, evaluations) if best else [],
        "diff_from_seed": diff_from_seed(best, candidates) if best else "",
        "control": journal.fact("control"),
        "operators": operator_credit(candidates, evaluations),
        "failures": dict(Counter(e.cause for e in evaluations.values() if e.cause)),
        "snapshots": snapshot_figures(list(evaluations.values())),
        "trained": trained_figures(candidates, evaluations),
        "seconds": sum(journal.timings().values()),
    }


def _variant(
    directory: RunDirectory, candidate: Candidate, evaluation: Evaluation | None, score: dict[str, float] | None
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
    return {
        **data,
        "bits_per_byte": evaluation.bits_per_byte,
        **(score or {}),
        "measures": list(evaluation.measures),
        "inherited": evaluation.inherited,
        "snapshot_bytes": evaluation.snapshot_bytes,
        "fp32_bytes": evaluation.fp32_bytes,
        "snapshot_increase": evaluation.snapshot_increase,
        "snapshot_ratio": evaluation.fp32_bytes / max(1, evaluation.snapshot_bytes),
    }


def elites(journal: Journal) -> dict[str, str]:
    """Cell -> the id of its elite in the result archive: the last that entered."""
    held: dict[int, str] = {}
    best: dict[int, float] = {}
    scores = journal.scores()
    for id, archive, cell, status, _ in journal.placements():
        if archive == "result" and status in ("new", "improved") and scores[id]["objective"] > best.get(cell, -1.0):
            held[cell], best[cell] = id, scores[id]["objective"]
    return {str(cell): held[cell] for cell in sorted(held)}


def lineage(best: str, candidates: dict[str, Candidate], evaluations: dict[str, Evaluation]) -> list[dict[str, Any]]:
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
        bits = evaluations[id].bits_per_byte
        line.append({"id": id, "operators": list(candidate.operators), "bits_per_byte": bits, "patch": patch})
        id = parents[0] if parents else None
    return line[::-1]


def diff_from_seed(best: str, candidates: dict[str, Candidate]) -> str:
    """The patch from the first seed of the best one's line to the best, as `evo diff` prints it."""
    seed = best
    while candidates[seed].parents:
        seed = candidates[seed].parents[0]
    return str(diff(parse(candidates[seed].document).document, parse(candidates[best].document).document))


def operator_credit(candidates: dict[str, Candidate], evaluations: dict[str, Evaluation]) -> list[dict[str, Any]]:
    """For each operator: how many children it took part in, how many failed, how many were better than their first
    parent in bits per byte, and the mean change. Children of several operators count for each. A child that inherits
    weights has been trained for longer than its parent, so compare operators with each other, not with zero."""
    changes: dict[str, list[float | None]] = {}
    for candidate in candidates.values():
        evaluation = evaluations.get(candidate.id)
        if evaluation is None or not candidate.parents:
            continue
        change = (
            None if evaluation.cause else evaluation.bits_per_byte - evaluations[candidate.parents[0]].bits_per_byte
        )
        for operator in set(candidate.operators):
            changes.setdefault(operator, []).append(change)
    rows: list[dict[str, Any]] = []
    for operator, found in sorted(changes.items()):
        known = [change for change in found if change is not None]
        rows.append({
            "operator": operator,
            "children": len(found),
            "failed": len(found) - len(known),
            "better_than_parent": sum(change < 0 for change in known),
            "mean_change_bits": statistics.fmean(known) if known else None,
        })  # fmt: skip
    return rows


def snapshot_figures(evaluations: list[Evaluation]) -> dict[str, float] | None:
    """Median size against fp32 and median and worst loss after restoring."""
    taken = [e for e in evaluations if e.snapshot_bytes]
    if not taken:
        return None
    increases = [e.snapshot_increase for e in taken]
    return {
        "median_ratio": statistics.median(e.fp32_bytes / e.snapshot_bytes for e in taken),
        "median_increase": statistics.median(increases),
        "worst_increase": max(increases),
    }


def trained_figures(candidates: dict[str, Candidate], evaluations: dict[str, Evaluation]) -> dict[str, float]:
    """Tokens trained on and training FLOPs (three times the forward pass's), by the plans, failures left out."""
    tokens, flops = 0, 0.0
    for id, evaluation in evaluations.items():
        if evaluation.cause:
            continue
        document = parse(candidates[id].document).document
        own = document.train.steps * document.train.batch * document.context
        tokens += own
        flops += 3.0 * own * resolve(document.organism).flops_per_token
    return {"tokens": tokens, "flops": flops}


def summary_lines(report: dict[str, Any]) -> list[str]:
    """What a person reads after a search."""
    variants = {variant["id"]: variant for variant in report["variants"]}
    best, control = variants[report["best"]], report["control"]
    seeds = [v["bits_per_byte"] for v in variants.values() if not v["parents"] and not v["cause"]]
    lines = [
        f"best variant: {best['file']}, objective {best['objective']:.4f}, {best['bits_per_byte']:.4f} held-out bits "
        f"per byte (best seed: {min(seeds):.4f} at the same budget)",
    ]
    lowest = variants[report["best_bits"]]
    if lowest["id"] != best["id"]:
        lines.append(f"lowest bits per byte: {lowest['file']}, {lowest['bits_per_byte']:.4f}")
    if control:
        lines.append(_control_line(control))
    figures = report["snapshots"]
    lines.append(
        f"snapshots: {figures['median_ratio']:.0f}x smaller than fp32 (median), loss after restoring "
        f"{figures['median_increase']:+.2%} (median), {figures['worst_increase']:+.2%} (worst)"
    )
    lines.append(f"report: {report['run']}/report.html")
    return lines


def _control_line(control: dict[str, Any]) -> str:
    if control["cause"]:
        return f"control: the seed trained for {control['steps']} steps gave no score ({control['cause']})"
    verdict = "the winner beats it" if control["winner_beats_control"] else "the winner does NOT beat it"
    return (
        f"control: seed {control['seed']} trained for {control['steps']} steps, as many as the winner's ancestry: "
        f"{control['control_bits_per_byte']:.4f} against {control['winner_bits_per_byte']:.4f}; {verdict}"
    )
