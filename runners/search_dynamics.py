"""Which settings of a search find more in few candidates? Whole searches on a made-up landscape, without training.

A document's score is made up: a power law of parameters and of tokens at equal FLOPs, in which the seed is somewhat too
large, as seeds of small budgets were found to be; an offset by kind of block, drawn anew for each landscape; the
distance of the learning rate from the best one; a rough rest by the document's content, and noise. So it compares
choices, mutations and selection, and says nothing about architectures: what looks better here is to be tried by
`search_quality.py`.

    python runners/search_dynamics.py --runs 30 --out results/search/dynamics.md
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import sys
from pathlib import Path
from typing import Any

from seed_organism import ORGANISM

from evo import Evaluation, Search
from evo.base.intervals import mean_interval
from evo.bench.tables import markdown, write_table
from evo.dsl.document import parse
from evo.evolution.documents import document_of, plan_of

SEED = (
    ORGANISM
    + """\
train: {steps: 600, batch: 16}
evolve: {fitness: {task: 1, efficiency: 0, gradient: 0}}
"""
)
PLAIN: dict[str, Any] = {"surrogate": None}
BEFORE: dict[str, Any] = {**PLAIN, "mutations": 2}
LANDSCAPES, POPULATION, FAILING, NOISE = 10, 4, 0.05, 0.004


def variation(thrift: float, size: int) -> dict[str, Any]:
    """The usual emitter, with other settings."""
    return {"kind": "variation", "thrift": thrift, "selection": {"kind": "tournament", "size": size}}


WAYS: dict[str, dict[str, Any]] = {
    "as it was: 2 mutations, a tournament of 2": {**BEFORE, "emitters": variation(0.0, 2)},
    "a tournament of 4": {**BEFORE, "emitters": variation(0.0, 4)},
    "half of the children thrifty": {**BEFORE, "emitters": variation(0.5, 2)},
    "4 mutations": {**PLAIN, "emitters": variation(0.0, 2)},
    "all three": PLAIN,
    "and the surrogate: the defaults": {},
    "aging": {"emitters": {"kind": "aging", "size": 8, "sample": 3}},
    "random": {"emitters": {"kind": "random"}},
}


def drawn(*key: Any) -> float:
    """A number in [0, 1) that a key alone decides."""
    return int(hashlib.sha256(repr(key).encode()).hexdigest()[:8], 16) / 2**32


def score(text: str, landscape: int) -> float:
    """The made-up bits per byte of a document, without noise."""
    plan, seed, optimizer = plan_of(text), plan_of(SEED), document_of(text).train.optimizer
    tokens = seed.flops_per_token / plan.flops_per_token
    value = 1.2 + 0.45 * (plan.parameters / seed.parameters) ** -0.22 + 0.75 * tokens**-0.45
    kinds = [block.kind for _, block in plan.named_blocks()]
    gains = [0.0 if kind in ("attention", "gated") else (drawn(landscape, kind) - 0.65) * 0.5 for kind in kinds]
    value -= 0.8 * sum(gains) / max(1, len(kinds)) + 0.03 * len(set(kinds))
    rate = getattr(optimizer, "lr", None)
    if rate:
        value += 0.02 * abs(math.log(rate / (6e-3 if optimizer.kind == "adamw" else 1e-2))) ** 1.5
    return value + 0.05 * (drawn(landscape, text) - 0.5)


def shown(text: str, rng: random.Random) -> tuple[float, ...]:
    """Made-up measures: by kinds of blocks, and luck."""
    kinds = sorted(block.kind for _, block in plan_of(text).named_blocks())
    spots = (0.5 + 0.3 * (2 * drawn("m", axis, kinds) - 1) + 0.1 * rng.gauss(0, 1) for axis in range(5))
    return tuple(min(1.0, max(0.0, spot)) for spot in spots)


def searched(options: dict[str, Any], landscape: int, candidates: int, seed: int) -> float:
    """How much less than the seed's the best document's score is after so many trainings."""
    rng, spent = random.Random(seed * 7919 + landscape), 0
    own = {"generations": math.ceil(candidates / POPULATION), "population": POPULATION, "seed": seed, **options}
    with Search(parse(SEED).document, **own) as search:
        while spent < candidates and (trials := search.ask()):
            for trial in trials:
                text = trial.candidate.document
                is_over = spent >= candidates and not trial.repeat
                if is_over or (trial.candidate.parents and drawn(landscape, "fail", text) < FAILING):
                    search.tell({trial: Evaluation("diverged", "made up")})
                else:
                    scores = {"bits_per_byte": score(text, landscape) + rng.gauss(0, NOISE), "gradient_evenness": 1.0}
                    search.tell({trial: Evaluation(scores=scores, measures=shown(text, rng))})
                spent += not is_over
        best = search.archives.best()
        assert best is not None
        documents = (search.journal.candidate(best.id).document, search.journal.candidates(0)[0].document)
    found, first = (score(text, landscape) for text in documents)
    return found - first


def main() -> None:
    """Search each way with the same seeds on the same landscapes, and write how they differ."""
    parser = argparse.ArgumentParser(description="Which settings of a search find more in few candidates?")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--candidates", type=int, default=36)
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows, first = [("settings", "best minus seed, 95 %", f"minus '{given.ways[0]}'")], list[float]()
    for way in given.ways:
        found = [searched(WAYS[way], run % LANDSCAPES, given.candidates, 100 + run) for run in range(given.runs)]
        first = first or found
        rows.append(
            (way, str(mean_interval(found)), str(mean_interval([a - b for a, b in zip(found, first, strict=True)])))
        )
        print(rows[-1], flush=True)
    if given.out is not None:
        title = f"{given.runs} searches of {given.candidates} candidates on {LANDSCAPES} made-up landscapes"
        write_table(given.out, title, "python runners/search_dynamics.py " + " ".join(sys.argv[1:]), markdown(rows))


if __name__ == "__main__":
    main()
