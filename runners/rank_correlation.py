"""What ranks candidates as a long training would? Random mutants of one document, trained short and long.

Every mutant is trained from scratch at shares of one budget in FLOPs, with learning rates as they are written and with
rates that follow widths (`mup`, `spectral`). For each way of setting rates: Kendall's tau between the score at the
whole budget and
- the score at each share,
- the score at the whole budget as a power law through the scores at all smaller shares foretells it,
- what zero-cost proxies say of the untrained mutant,
- a ridge regression over plans that learned from all other mutants,
- the last training loss as the first half of the learning curve foretells it,
over all mutants and over the better half, with 95 % intervals by bootstrap over mutants. What ranks becomes a default
where its interval lies above the other's mean. The files are written anew whenever something ended.

    python runners/rank_correlation.py --device cuda --processes 14 --mutants 24 --steps 600 --out results/search
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau
from seed_organism import ORGANISM

from evo.base.files import write_atomic
from evo.base.power_laws import fit
from evo.bench.tables import commit, hardware
from evo.compiler.compute import budget_of, whole_steps
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_data, to_yaml
from evo.dsl.document import from_data, parse
from evo.dsl.evolve import EvolveSpec
from evo.dsl.schedules import Course
from evo.dsl.tree import replaced
from evo.engines.jobs import Job, Outcome
from evo.engines.pool import PoolEngine
from evo.evolution.cost_range import cost_range
from evo.evolution.evaluate import EVALUATE, TrialJob, outcome_of
from evo.evolution.mutate import mutants
from evo.evolution.settings import Settings
from evo.evolution.surrogates.proxies.spec import GradientNormSpec, SynflowSpec
from evo.evolution.surrogates.proxies.surrogate import GradientNorm, Synflow
from evo.evolution.surrogates.ridge.spec import RidgeSpec
from evo.evolution.surrogates.ridge.surrogate import Ridge
from evo.report.guesses import foreseen

AS_WRITTEN = "as written"
RATES = (AS_WRITTEN, "mup", "spectral")
"""How rates follow widths: not at all, or by a rule that leaves them as they are at the seed's width."""
PROXIES = {GradientNormSpec.kind: GradientNorm, SynflowSpec.kind: Synflow}
TRAIN = """
train: {steps: %d, batch: 16, task: {kind: bytes, corpus: %s}}
"""
DRAWS = 500
"""Samples of mutants for an interval."""

Pair = tuple[float, float]
Trained = dict[str, Any]


def documents(organism: str, steps: int, corpus: str, count: int, mutations: int) -> list[str]:
    """The seed document and its mutants; widths, depths and mixers differ, how they are trained does not."""
    seed = parse(organism + TRAIN % (steps, corpus)).document
    costs = cost_range(EvolveSpec(), [resolve(seed.organism)])
    found = {to_yaml(seed): None}
    for child in mutants(seed, 10 * count, 0, mutations):
        if costs.holds(resolve(child.document.organism)):
            found[to_yaml(replaced(child.document, {("train",): seed.train}))] = None
        if len(found) == count:
            break
    return list(found)


def with_rates(text: str, arm: str, base: int) -> str:
    """The document with another way of setting rates, which are the document's own at the width `base`."""
    if arm == AS_WRITTEN:
        return text
    data = to_data(parse(text).document)
    return to_yaml(from_data({**data, "train": {**data["train"], "rates": {"kind": arm, "base": base}}}).document)


def jobs(texts: Sequence[str], given: argparse.Namespace, wanted: dict[str, Trained]) -> Iterator[Job]:
    """The proxies, then all trainings, the whole budget first. wanted: filled with what each is, by id."""
    for name, proxy in PROXIES.items():
        for index, text in enumerate(texts):
            wanted[f"{name}/{index}"] = {"index": index, "proxy": name}
            yield Job(f"{name}/{index}", proxy.function, (text, "."))
    seed = parse(texts[0]).document
    budget, base = budget_of(seed), seed.organism.width
    for share in (1.0, *given.shares):
        for index, text in enumerate(texts):
            for arm in given.rates:
                own = with_rates(text, arm, base)
                course = Course.of(whole_steps(budget, parse(own).document, share))
                id = f"{arm}/{share}/{index}"
                wanted[id] = {"index": index, "rates": arm, "share": share, "steps": course.steps}
                limit = given.most_seconds
                yield Job(
                    id, EVALUATE,
                    TrialJob(own, ".", given.device, course=course, max_seconds=limit, tolerance=None),
                )  # fmt: skip


def noted(row: Trained, outcome: Outcome) -> Trained:
    """What came of a job."""
    if "proxy" in row:
        return {**row, "guess": None if outcome.failure else outcome.value}
    found = outcome_of(outcome)
    score = None if found.cause else found.scores["bits_per_byte"]
    ahead = foreseen(found.curve) if row["share"] == 1.0 and not found.cause else None
    return {**row, "score": score, "ahead": ahead, "cause": found.cause, "seconds": outcome.seconds}


def predictors(found: Sequence[Trained], texts: Sequence[str], arm: str) -> dict[str, dict[int, float]]:
    """What may foretell the score at the whole budget, by name and mutant; less is better."""
    trained = [row for row in found if row.get("rates") == arm]
    known = {f"{row['share']:.3g} of the budget": dict[int, float]() for row in trained if row["share"] < 1}
    for row in trained:
        if row["share"] < 1 and row["score"]:
            known[f"{row['share']:.3g} of the budget"][row["index"]] = row["score"]
    if len(known) > 1:
        known["a power law of shares"] = drawn_on(trained)
    known["half a learning curve"] = {row["index"]: row["ahead"] for row in trained if row.get("ahead")}
    for name in PROXIES:
        guesses = [row for row in found if row.get("proxy") == name and row["guess"] is not None]
        known[str(name)] = {row["index"]: -row["guess"] for row in guesses}
    known["ridge, all others known"] = _ridge({i: -score for i, score in finals(found, arm).items()}, texts)
    return known


def drawn_on(trained: Sequence[Trained]) -> dict[int, float]:
    """The score at the whole budget by a power law through those at smaller shares; mutants that have two or more."""
    curves = dict[int, dict[float, float]]()
    for row in trained:
        if row["share"] < 1 and row["score"]:
            curves.setdefault(row["index"], {})[row["share"]] = row["score"]
    return {index: fit([*own], [*own.values()])(1.0) for index, own in curves.items() if len(own) > 1}


def finals(found: Sequence[Trained], arm: str) -> dict[int, float]:
    """The scores at the whole budget, by mutant."""
    rows = [row for row in found if row.get("rates") == arm and row["share"] == 1.0]
    return {row["index"]: row["score"] for row in rows if row["score"]}


def _ridge(objectives: Mapping[int, float], texts: Sequence[str]) -> dict[int, float]:
    """What the regression expects of each mutant after all the others."""
    settings = Settings(seeds=(texts[0],), root=".", evolve=parse(texts[0]).document.evolve)
    guessed = dict[int, float]()
    for index in objectives:
        others = [(texts[other], objective) for other, objective in objectives.items() if other != index]
        guess = Ridge(RidgeSpec(), settings).guess([texts[index]], others)
        if guess is not None:
            guessed[index] = -guess[0]
    return guessed


def tau(pairs: Sequence[Pair]) -> float:
    """Kendall's tau-b."""
    short, long = zip(*pairs, strict=True)
    return float(kendalltau(short, long)[0])  # pyright: ignore[reportArgumentType]  # scipy tells no types


def interval(pairs: Sequence[Pair]) -> tuple[float, float, float]:
    """Tau of pairs, and the ends of its 95 % interval by bootstrap over pairs."""
    rng = random.Random(0)
    drawn = (tau(rng.choices(pairs, k=len(pairs))) for _ in range(DRAWS)) if len(pairs) > 1 else ()
    known = sorted(value for value in drawn if not math.isnan(value))
    if not known:
        return math.nan, math.nan, math.nan
    low, high = known[int(0.025 * len(known))], known[min(len(known) - 1, int(0.975 * len(known)))]
    return tau(pairs), low, high


def rows_of(found: Sequence[Trained], texts: Sequence[str], arms: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each way of setting rates and each predictor, over the mutants that both have a number for."""
    rows = list[dict[str, Any]]()
    for arm in arms:
        final = finals(found, arm)
        for name, guesses in predictors(found, texts, arm).items():
            order = sorted(final.keys() & guesses.keys(), key=lambda n: final[n])
            if not order:
                continue
            pairs = [(guesses[n], final[n]) for n in order]
            first = min(order, key=lambda n: guesses[n])
            rows.append({
                "rates": arm, "by": name, "mutants": len(order), "tau": interval(pairs),
                "tau_better_half": interval(pairs[: (len(order) + 1) // 2]),
                "place_of_its_first": order.index(first) + 1, "best": final[order[0]], "seed": final.get(0),
            })  # fmt: skip
    return rows


def markdown(rows: Sequence[dict[str, Any]], head: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        f"What ranks documents as their scores at the whole budget do: {head['about']}.",
        "",
        "| rates | ranked by | mutants | Kendall's tau (95 %) | in the better half | place of its first |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        (whole, low, high), (half, *ends) = row["tau"], row["tau_better_half"]
        lines.append(
            f"| {row['rates']} | {row['by']} | {row['mutants']} | {whole:.2f} ({low:.2f} to {high:.2f}) | "
            f"{half:.2f} ({ends[0]:.2f} to {ends[1]:.2f}) | {row['place_of_its_first']} |"
        )
    best = {row["rates"]: f"{row['best']:.3f} ({row['seed'] or math.nan:.3f} the seed)" for row in rows}
    lines += ["", "The best at the whole budget, bits per byte: " + "; ".join(f"{a} {own}" for a, own in best.items())]
    return "\n".join([*lines, "", f"`{head['command']}`, commit {head['commit']}, {head['hardware']}.", ""])


def main() -> None:
    """Train, correlate, write."""
    parser = argparse.ArgumentParser(description="What ranks candidates as a long training would?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--organism", type=Path, help="a document without `train`; left out, that of seed_organism.py")
    parser.add_argument("--corpus", default="shakespeare", help="a shipped one, or a file")
    parser.add_argument("--mutants", type=int, default=24)
    parser.add_argument("--mutations", type=int, default=6)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 3])
    parser.add_argument("--rates", nargs="+", default=[*RATES], choices=[*RATES])
    parser.add_argument("--most-seconds", type=float, default=60, help="the longest training")
    parser.add_argument("--seconds", type=float, default=560, help="after which what is left is let go of")
    parser.add_argument("--commit", help="where the files have no history")
    parser.add_argument("--out", type=Path, default=Path("results/search"))
    given = parser.parse_args()
    began, stem = time.monotonic(), Path(given.corpus).stem
    organism = given.organism.read_text() if given.organism else ORGANISM
    texts = documents(organism, given.steps, given.corpus, given.mutants, given.mutations)
    head = {
        "about": f"{len(texts)} documents, {given.steps} seed steps of FLOPs, {stem}",
        "command": "python runners/rank_correlation.py " + " ".join(sys.argv[1:]),
        "commit": given.commit or commit(), "hardware": hardware(given.device),
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    file, wanted, found = given.out / f"ranks_{stem}.json", dict[str, Trained](), list[Trained]()
    with PoolEngine(given.processes, preload=("evo.evolution.evaluate",)) as engine:
        for outcome in engine.map(jobs(texts, given, wanted)):
            found.append(noted(wanted[outcome.id], outcome))
            write_atomic(file, json.dumps({**head, "found": found, "documents": texts}, indent=1) + "\n")
            if time.monotonic() - began > given.seconds:
                break
    found.sort(key=lambda row: (row.get("rates", ""), row.get("share", 0.0), row.get("proxy", ""), row["index"]))
    rows = rows_of(found, texts, given.rates)
    data = {**head, "seconds": time.monotonic() - began, "rows": rows, "found": found, "documents": texts}
    write_atomic(file, json.dumps(data, indent=1) + "\n")
    text = markdown(rows, head)
    file.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
