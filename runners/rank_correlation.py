"""What ranks candidates as a long training would? Random mutants of one document, trained short and long, two ways.

Every mutant is trained from scratch at shares of one budget in FLOPs, with learning rates as they are written and with
rates that follow widths. For each way of training: Kendall's tau between the score at each share and that at the whole
budget, over all mutants and over the better half, with intervals by bootstrap over mutants. A setting becomes a default
where its interval lies above the other's mean.

    python runners/rank_correlation.py --device cuda --processes 14 --mutants 30 --steps 2000 --out results/search
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import sys
import time
from pathlib import Path
from typing import Any

RATES: dict[str, dict[str, Any] | None] = {
    "as written": None,
    "mup": {"kind": "mup", "base": 128},
    "spectral": {"kind": "spectral", "base": 128},
}
SEED_DOCUMENT = """
evo: 1
organism:
  width: 128
  context: 128
  stages: [{name: body, repeat: 4, mix: {kind: attention, heads: 4}}]
train: {steps: %d, batch: 16, task: {kind: bytes, corpus: %s}}
"""
DRAWS = 500
"""Samples of mutants for an interval."""


def documents(steps: int, corpus: str, count: int, mutations: int) -> list[str]:
    """The seed document and its mutants; widths, depths and mixers differ, how they are trained does not."""
    from evo.dsl.canonical import to_yaml
    from evo.dsl.document import parse
    from evo.dsl.tree import replaced
    from evo.evolution.mutate import mutants

    seed = parse(SEED_DOCUMENT % (steps, corpus)).document
    found = [replaced(child.document, {("train",): seed.train}) for child in mutants(seed, count - 1, 0, mutations)]
    return list(dict.fromkeys(map(to_yaml, [seed, *found])))


def trained(job: tuple[str, str, float, str, int, str]) -> dict[str, Any]:
    """The score of one document at one share of its budget under one way of setting rates."""
    text, arm, share, device, index, whole = job
    import torch

    from evo.compiler.compute import budget_of, whole_steps
    from evo.dsl.canonical import to_yaml
    from evo.dsl.document import from_data, parse
    from evo.dsl.schedules import Course
    from evo.evolution.evaluate import TrialJob, evaluate

    torch.set_num_threads(1)
    document = parse(text).document
    if RATES[arm] is not None:
        from evo.dsl.canonical import to_data

        data = to_data(document)
        document = from_data({**data, "train": {**data["train"], "rates": RATES[arm]}}).document
    steps = whole_steps(budget_of(parse(whole).document), document, share)
    began = time.monotonic()
    found = evaluate(TrialJob(to_yaml(document), ".", device, course=Course.of(steps), tolerance=None))
    score = None if found.cause else found.scores["bits_per_byte"]
    seconds = time.monotonic() - began
    return {"index": index, "rates": arm, "share": share, "score": score, "cause": found.cause, "seconds": seconds}


def tau(short: list[float], final: list[float]) -> float:
    """Kendall's tau-b."""
    from scipy.stats import kendalltau

    return float(kendalltau(short, final)[0])  # type: ignore[arg-type]


def interval(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Tau of pairs, and the ends of its 95 % interval by bootstrap over pairs."""
    rng = random.Random(0)
    drawn = (tau(*map(list, zip(*rng.choices(pairs, k=len(pairs)), strict=True))) for _ in range(DRAWS))
    known = sorted(value for value in drawn if not math.isnan(value))
    if not known:
        return math.nan, math.nan, math.nan
    low, high = known[int(0.025 * len(known))], known[min(len(known) - 1, int(0.975 * len(known)))]
    return tau(*map(list, zip(*pairs, strict=True))), low, high


def rows_of(found: list[dict[str, Any]], shares: list[float]) -> list[dict[str, Any]]:
    """A row for each way of training and each share below the whole."""
    scores = {(row["rates"], row["share"], row["index"]): row["score"] for row in found}
    rows = list[dict[str, Any]]()
    for arm in dict.fromkeys(row["rates"] for row in found):
        known = [n for n in {row["index"] for row in found} if all(scores.get((arm, s, n)) for s in (*shares, 1.0))]
        half = sorted(known, key=lambda n: scores[arm, 1.0, n])[: (len(known) + 1) // 2]
        for share in shares:
            pairs, better = ([(scores[arm, share, n], scores[arm, 1.0, n]) for n in own] for own in (known, half))
            first = min(known, key=lambda n: scores[arm, share, n])
            place = sorted(known, key=lambda n: scores[arm, 1.0, n]).index(first) + 1
            rows.append({
                "rates": arm, "share": share, "mutants": len(known), "tau": interval(pairs),
                "tau_better_half": interval(better), "place_of_its_first": place,
                "best": min(scores[arm, 1.0, n] for n in known), "seed": scores.get((arm, 1.0, 0)),
            })  # fmt: skip
    return rows


def markdown(rows: list[dict[str, Any]], head: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        f"How a short score ranks the score at the whole budget: {head['about']}.",
        "",
        "| rates | share of the budget | mutants | Kendall's tau (95 %) | in the better half | place of its first |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        (whole, low, high), (half, *ends) = row["tau"], row["tau_better_half"]
        lines.append(
            f"| {row['rates']} | {row['share']:.3g} | {row['mutants']} | {whole:.2f} ({low:.2f} to {high:.2f}) | "
            f"{half:.2f} ({ends[0]:.2f} to {ends[1]:.2f}) | {row['place_of_its_first']} |"
        )
    return "\n".join([*lines, "", f"`{head['command']}`, commit {head['commit']}, {head['hardware']}.", ""])


def main() -> None:
    """Train, correlate, write."""
    from evo.bench.tables import commit, hardware

    parser = argparse.ArgumentParser(description="What ranks candidates as a long training would?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--corpus", default="shakespeare")
    parser.add_argument("--mutants", type=int, default=30)
    parser.add_argument("--mutations", type=int, default=6)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 9, 1 / 3])
    parser.add_argument("--rates", nargs="+", default=[*RATES], choices=[*RATES])
    parser.add_argument("--out", type=Path, default=Path("results/search"))
    given = parser.parse_args()
    texts = documents(given.steps, given.corpus, given.mutants, given.mutations)
    jobs = [
        (text, arm, share, given.device, index, texts[0])
        for share in (1.0, *given.shares)
        for arm in given.rates
        for index, text in enumerate(texts)
    ]
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        found = list(pool.imap_unordered(trained, jobs, chunksize=1))
    found.sort(key=lambda row: (given.rates.index(row["rates"]), row["share"], row["index"]))
    rows = rows_of(found, given.shares)
    head = {
        "about": f"{len(texts)} documents, {given.steps} seed steps of FLOPs, {given.corpus}",
        "command": "python runners/rank_correlation.py " + " ".join(sys.argv[1:]),
        "commit": commit(), "hardware": hardware(given.device),
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    data = {**head, "rows": rows, "trainings": found, "documents": texts}
    (given.out / f"ranks_{given.corpus}.json").write_text(json.dumps(data, indent=1) + "\n")
    text = markdown(rows, head)
    (given.out / f"ranks_{given.corpus}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
