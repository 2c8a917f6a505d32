"""Do searches find better architectures? Small searches side by side on one device, and what they found from scratch.

Arms are configurations of `evolve` with equal total training FLOPs: `candidates` times the budget of one. What each
finds, the document that it began with, and the best of a grid over rate, width and depth (`tuned`) are then trained
anew over several seeds at `verify` times the FLOPs of a search's budget, and scored on text that no search read:
searches get the corpus without what the verdict is given on.

    python runners/search_quality.py --device cuda --processes 14 --out results/search
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ARMS: dict[str, dict[str, Any]] = {
    "evolve": {},
    "evolve, asha": {"fidelity": {"kind": "asha"}},
    "evolve, asha, inherit": {"fidelity": {"kind": "asha"}, "inherit": True},
    "evolve, hyperband": {"fidelity": {"kind": "hyperband"}},
    "random": {"emitters": {"kind": "random"}},
    "aging": {"emitters": {"kind": "aging", "size": 6, "sample": 3}},
}
GRID, SEED = "tuned", "seed document"
POPULATION = 6
HELD_OUT = 131_072
FIRST = """
evo: 1
organism:
  width: 128
  context: 128
  stages: [{name: body, repeat: 4, mix: {kind: attention, heads: 4}}]
train: {steps: %d, batch: 16, task: {kind: bytes, corpus: %s}}
evolve: {fitness: {task: 1, efficiency: 0, gradient: 0}}
"""


@dataclass(frozen=True)
class Setting:
    """What all searches share. search_s: after which a search asks for nothing more."""

    device: str
    root: str
    steps: int
    candidates: int
    verify: float
    verify_seeds: int
    search_s: float


@dataclass(frozen=True)
class Found:
    """What a search found: its document, its score there, and what it took."""

    arm: str
    corpus: str
    seed: int
    document: str
    score: float
    trained: int
    failed: dict[str, int]
    flops: float
    seconds: float
    is_complete: bool


def search(setting: Setting, arm: str, corpus: str, seed: int) -> Found:
    """Carry out one search, or the grid."""
    began = time.monotonic()
    document = FIRST % (setting.steps, f"./search_{corpus}.txt")
    if arm == GRID:
        return _tuned(setting, document, corpus, seed, began)
    from evo import Search
    from evo.compiler.compute import step_flops
    from evo.dsl.document import parse
    from evo.engines.inline import InlineSpec
    from evo.engines.jobs import Job, Limits, make_engine
    from evo.evolution.evaluate import outcome_of

    file = Path(setting.root) / f"{arm}_{corpus}_{seed}.yaml".replace(", ", "_")
    file.write_text(document)
    options = {"generations": 1000, "population": POPULATION, "cells": 64, "seed": seed, **ARMS[arm]}
    budget = step_flops(parse(document).document) * setting.steps * setting.candidates
    failed, trained, flops = Counter[str](), 0, 0.0
    with (
        Search(file, root=setting.root, device=setting.device, **options) as own,
        make_engine(InlineSpec(), Limits()) as engine,
    ):
        while flops < budget and time.monotonic() - began < setting.search_s and (trials := own.ask()):
            by_id = {trial.id: trial for trial in trials}
            jobs = (Job(trial.id, own.evaluate, _cheap(own, trial)) for trial in trials)
            for outcome in engine.map(jobs):
                trial, evaluation = by_id[outcome.id], outcome_of(outcome)
                own.tell({trial: evaluation})
                trained += 1
                failed.update([f"{evaluation.cause}: {evaluation.message[:80]}"] if evaluation.cause else [])
                flops += (trial.steps - trial.done) * step_flops(own.document(trial))
        own.ask()  # the last generation is placed
        best = own.archives.best()
        assert best is not None
        scores = own.journal.evaluation(best.trial, with_snapshot=False)
        assert scores is not None
        text = own.journal.candidate(best.id).document
    score, took = scores.scores["bits_per_byte"], time.monotonic() - began
    return Found(arm, corpus, seed, text, score, trained, failed, flops, took, flops >= budget)


def _cheap(own: Any, trial: Any) -> Any:
    """The job of a trial, without a snapshot where nobody inherits."""
    job = own.job(trial)
    return job if own.evolve.inherit else replace(job, tolerance=None)


def _tuned(setting: Setting, document: str, corpus: str, seed: int, began: float) -> Found:
    """The best of a grid of plain documents, drawn in random order, at the same total FLOPs."""
    from evo.compiler.compute import budget_of, step_flops, whole_steps
    from evo.dsl.document import parse
    from evo.dsl.schedules import Course
    from evo.evolution.evaluate import TrialJob, evaluate

    budget = budget_of(parse(document).document)
    grid = list(_grid(document))
    random.Random(seed).shuffle(grid)
    best, failed, flops = (math.inf, document), Counter[str](), 0.0
    for text in grid[: setting.candidates]:
        made = parse(text).document
        course = Course.of(whole_steps(budget, made))
        job = TrialJob(text, setting.root, setting.device, course=course, tolerance=None)
        found = evaluate(job)
        failed.update([found.cause] if found.cause else [])
        flops += course.steps * step_flops(made)
        best = min(best, (math.inf if found.cause else found.scores["bits_per_byte"], text))
    score, text = best
    took = time.monotonic() - began
    return Found(GRID, corpus, seed, text, score, min(len(grid), setting.candidates), failed, flops, took, True)


def _grid(document: str) -> Iterator[str]:
    """Widths, depths and rates around the document's own."""
    for width in (96, 128, 160):
        for repeat in (3, 4, 6):
            for lr in (1.5e-3, 3e-3, 6e-3):
                text = document.replace("width: 128", f"width: {width}").replace("repeat: 4", f"repeat: {repeat}")
                yield text.replace("batch: 16", f"batch: 16, optimizer: {{kind: adamw, lr: {lr}}}")


def verify(setting: Setting, name: str, corpus: str, document: str, seed: int) -> dict[str, Any]:
    """A document trained from scratch, scored on the text of the verdict."""
    from evo.compiler.compute import budget_of, whole_steps
    from evo.dsl.document import parse
    from evo.dsl.schedules import Course
    from evo.evolution.evaluate import TrialJob, evaluate
    from evo.evolution.trial import Budget

    budget = budget_of(parse(FIRST % (setting.steps, corpus)).document)
    text = document.replace(f"./search_{corpus}.txt", corpus)
    steps = whole_steps(budget, parse(text).document, setting.verify)
    job = TrialJob(
        text, setting.root, setting.device, course=Course.of(steps), repeat=seed, tolerance=None,
        budget=Budget(held_out_tokens=HELD_OUT),
    )  # fmt: skip
    found = evaluate(job)
    score = None if found.cause else found.scores["bits_per_byte"]
    return {"name": name, "corpus": corpus, "seed": seed, "steps": steps, "score": score, "cause": found.cause}


def call(job: tuple[Any, ...]) -> Any:
    """What a process is given: a function with its arguments."""
    import torch

    torch.set_num_threads(1)
    function, *arguments = job
    try:
        return function(*arguments)
    except Exception as error:
        raise RuntimeError(f"{function.__name__} {arguments[1:3]}: {type(error).__name__}: {error}") from None


def write_texts(root: Path, corpora: list[str]) -> None:
    """The text that searches get: what a shipped corpus trains on, without what it holds out."""
    from evo.data.corpus import load_corpus

    for name in corpora:
        (root / f"search_{name}.txt").write_bytes(load_corpus(name).train.tobytes())


def table(found: list[Found], checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row an arm: the difference from the seed document over corpora, search seeds and training seeds."""
    from evo.base.intervals import mean_interval

    def mean(name: str, corpus: str) -> float:
        scores = [c["score"] for c in checks if (c["name"], c["corpus"]) == (name, corpus)]
        return sum(scores) / len(scores) if scores and None not in scores else math.nan

    rows = []
    for arm in dict.fromkeys(f.arm for f in found):
        own = [f for f in found if f.arm == arm]
        changes = [mean(f"{arm}/{f.seed}", f.corpus) - mean(SEED, f.corpus) for f in own]
        known = [change for change in changes if not math.isnan(change)]
        interval = mean_interval(known) if known else None
        rows.append({
            "arm": arm, "searches": len(own), "by_search": changes, "mean": interval and interval.mean,
            "half_width": interval and interval.half_width, "better": sum(change < 0 for change in known),
            "trained": sum(f.trained for f in own) / len(own), "failed": sum(sum(f.failed.values()) for f in own),
            "seconds": sum(f.seconds for f in own) / len(own), "flops": sum(f.flops for f in own) / len(own),
            "complete": sum(f.is_complete for f in own),
        })  # fmt: skip
    return rows


def markdown(rows: list[dict[str, Any]], head: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        f"Winner minus seed document, bits per byte (less is better), {head['about']}.",
        "",
        "| arm | difference, 95 % | searches better | trials | FLOPs | s a search | complete |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        change = "-" if row["mean"] is None else f"{row['mean']:+.4f} ± {row['half_width']:.4f}"
        lines.append(
            f"| {row['arm']} | {change} | {row['better']} of {row['searches']} | {row['trained']:.0f} | "
            f"{row['flops']:.2e} | {row['seconds']:.0f} | {row['complete']} |"
        )
    return "\n".join([*lines, "", f"`{head['command']}`, commit {head['commit']}, {head['hardware']}.", ""])


def main() -> None:
    """Search, verify, write."""
    from evo.bench.tables import commit, hardware

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--corpora", nargs="+", default=["shakespeare", "python"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=[*ARMS, GRID])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--verify", type=float, default=3.3)
    parser.add_argument("--verify-seeds", type=int, default=3)
    parser.add_argument("--search-seconds", type=float, default=270)
    parser.add_argument("--out", type=Path, default=Path("results/search"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_texts(Path(folder), given.corpora)
        setting = Setting(
            given.device, folder, given.steps, given.candidates, given.verify, given.verify_seeds, given.search_seconds
        )
        found, checks, took = carry_out(setting, given)
    rows = table(found, checks)
    about = (
        f"{given.candidates} x {given.steps} seed steps of FLOPs a search, from scratch at {given.verify} x of one "
        f"over {given.verify_seeds} seeds, corpora {', '.join(given.corpora)}, search seeds {given.seeds}"
    )
    head = {
        "about": about, "command": "python runners/search_quality.py " + " ".join(sys.argv[1:]),
        "commit": commit(), "hardware": hardware(given.device), "seconds": took,
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    name = "quality_" + "_".join(map(str, given.seeds))
    data = {**head, "rows": rows, "searches": [asdict(f) for f in found], "checks": checks}
    (given.out / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    text = markdown(rows, head)
    (given.out / f"{name}.md").write_text(text)
    print(text)
    print(f"searching {took[0]:.0f} s, verifying {took[1]:.0f} s")


def carry_out(setting: Setting, given: argparse.Namespace) -> tuple[list[Found], list[dict[str, Any]], list[float]]:
    """All searches, then all trainings from scratch, in one pool of processes."""
    began = time.monotonic()
    searches = [(search, setting, arm, c, seed) for arm in given.arms for c in given.corpora for seed in given.seeds]
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        found = list(pool.imap_unordered(call, searches, chunksize=1))
        found.sort(key=lambda f: (given.arms.index(f.arm), f.corpus, f.seed))
        searched = time.monotonic()
        named = [(f"{f.arm}/{f.seed}", f.corpus, f.document) for f in found]
        named += [(SEED, corpus, FIRST % (setting.steps, corpus)) for corpus in given.corpora]
        jobs = [(verify, setting, *row, seed) for seed in range(setting.verify_seeds) for row in named]
        checks = list(pool.imap_unordered(call, jobs, chunksize=1))
    return found, checks, [searched - began, time.monotonic() - searched]


if __name__ == "__main__":
    main()
