"""What `search_quality.py` compares: searches by configuration, and a grid, as sources of trainings.

A hunt gives its next trainings and is told what came of them. Every training is paid for by its FLOPs; what would go
beyond a hunt's total is not carried out, so all hunts of a setting have the same.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evo import Search
from evo.compiler.compute import budget_of, step_flops, whole_steps
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_yaml
from evo.dsl.document import parse
from evo.dsl.evolve import EvolveSpec
from evo.dsl.schedules import Course
from evo.dsl.tree import replaced
from evo.engines.jobs import Outcome
from evo.evolution.cost_range import cost_range
from evo.evolution.evaluate import TrialJob, outcome_of
from evo.evolution.trial import Evaluation, Trial

HELD: dict[str, Any] = {"freeze": ["organism.width", "organism.stages.body.repeat"]}
ARMS: dict[str, dict[str, Any]] = {
    "evolve": {},
    "evolve, as it was": {
        "mutations": 2,
        "surrogate": None,
        "emitters": {"kind": "variation", "thrift": 0.0, "selection": {"kind": "tournament", "size": 2}},
    },
    "evolve, size held": HELD,
    "evolve, any cost": {"shrink": 0.0},
    "evolve, asha": {"fidelity": {"kind": "asha"}},
    "evolve, asha, inherit": {"fidelity": {"kind": "asha"}, "inherit": True},
    "evolve, hyperband": {"fidelity": {"kind": "hyperband"}},
    "evolve, ridge": {"surrogate": {"kind": "ridge"}},
    "evolve, no surrogate": {"surrogate": None},
    "random, hyperband": {"emitters": {"kind": "random"}, "fidelity": {"kind": "hyperband"}},
    "random": {"emitters": {"kind": "random"}},
    "random, size held": {"emitters": {"kind": "random"}, **HELD},
    "aging": {"emitters": {"kind": "aging", "size": 8, "sample": 3}},
    "aging, size held": {"emitters": {"kind": "aging", "size": 8, "sample": 3}, **HELD},
}
"""`evolve` has the defaults; `as it was` those before they were changed by a simulation; `size held` keeps the seed's
width and depth, and `any cost` lets children cost next to nothing: what wins short trials so loses longer ones
(results/search/README.md).
`aging` breeds from its ninth candidate on: two thirds of its trials at 24 are mutants of its population."""
GRID, SEED = "tuned", "seed document"
WIDTHS, DEPTHS, RATES = (0.5, 0.75, 1.0, 1.25), (0.5, 0.75, 1.0, 1.5), (1.5e-3, 3e-3, 6e-3, 1.2e-2)
"""Of the grid: widths and depths as multiples of the seed's, and learning rates."""
TRAIN = """
train: {steps: %d, batch: %d, task: {kind: bytes, corpus: %s}}
evolve: {fitness: {task: 1, efficiency: 0, gradient: 0}}
"""


@dataclass(frozen=True)
class Setting:
    """What searches share.

    organism: what they begin with, a document without `train`. baseline: the one that the grid is over; its first stage
    is `body`. steps: of the seed document, whose FLOPs are the budget of a candidate. candidates: how often a search
    has that in all. root: the folder with the texts. most_s: the longest training of a search. shrink: the least that
    children may cost, as in `evolve`. batch: rows of a training step.
    """

    device: str
    root: str
    organism: str
    baseline: str
    steps: int
    candidates: int
    population: int
    most_s: float
    shrink: float = EvolveSpec().shrink
    batch: int = 16

    def document(self, corpus: str) -> str:
        """The seed document on a corpus, by the name that it has below the root."""
        return self._on(corpus, self.organism)

    def plain(self, corpus: str) -> str:
        """The baseline, the same way."""
        return self._on(corpus, self.baseline)

    def _on(self, corpus: str, organism: str) -> str:
        return organism + TRAIN % (self.steps, self.batch, corpus)


@dataclass(frozen=True)
class Found:
    """What a search found: its document, its score there, and what it took. failed: by cause and message."""

    arm: str
    corpus: str
    seed: int
    document: str
    score: float | None
    trained: int
    failed: dict[str, int]
    flops: float
    seconds: float
    is_complete: bool


def search_text(corpus: str) -> str:
    """The name, below the root, of what searches read of a corpus."""
    return f"./search_{corpus}.txt"


@dataclass
class Hunt(ABC):
    """The base of an arm's search over one corpus with one seed."""

    arm: str
    corpus: str
    seed: int
    setting: Setting
    trained: int = 0
    flops: float = 0.0
    failed: Counter[str] = field(default_factory=Counter[str])
    began: float = field(default_factory=time.monotonic)
    is_over: bool = False
    """Whether it has asked for all that it can pay for."""

    def __post_init__(self) -> None:
        self.document = self.setting.document(search_text(self.corpus))
        self.budget = budget_of(parse(self.document).document)
        self.total = self.budget.amount * self.setting.candidates

    @property
    def progress(self) -> float:
        """The share of the total that is spent or asked for."""
        return self.flops / self.total

    @abstractmethod
    def next(self) -> dict[str, TrialJob]:
        """The next trainings by ids of their own, whose FLOPs are spent by that; empty while earlier ones are out, and
        at the end."""

    @abstractmethod
    def tell(self, id: str, outcome: Outcome) -> None:
        """Take note of what came of one."""

    @property
    @abstractmethod
    def is_out(self) -> bool:
        """Whether some are out."""

    @abstractmethod
    def best(self) -> tuple[str, float | None]:
        """The best document so far, with its score if it has one."""

    def found(self) -> Found:
        """What came of it."""
        document, score = self.best()
        took = time.monotonic() - self.began
        return Found(
            self.arm, self.corpus, self.seed, document, score, self.trained, dict(self.failed), self.flops, took,
            self.is_over,
        )  # fmt: skip

    def _can_pay(self, flops: float) -> bool:
        """Whether that much is left; a step more or less is nothing."""
        return self.flops + flops <= 1.01 * self.total

    def _spend(self, flops: float) -> None:
        self.flops += flops
        self.trained += 1

    def _note(self, outcome: Outcome) -> Evaluation:
        evaluation = outcome_of(outcome)
        if evaluation.cause:
            self.failed[f"{evaluation.cause}: {evaluation.message[:80]}"] += 1
        return evaluation


@dataclass
class Evolving(Hunt):
    """A search by configuration."""

    def __post_init__(self) -> None:
        super().__post_init__()
        file = Path(self.setting.root) / f"{self.arm}_{self.corpus}_{self.seed}.yaml".replace(", ", "_")
        file.write_text(self.document)
        population = self.setting.population
        generations = math.ceil(self.setting.candidates / population)
        if "fidelity" in ARMS[self.arm]:  # most trials are short, and there are more of them
            generations *= 3
        own = {"generations": generations, "population": population, "seed": self.seed, "shrink": self.setting.shrink}
        own |= ARMS[self.arm]
        self.search = Search(file, root=self.setting.root, device=self.setting.device, **own)
        self.out: dict[str, Trial] = {}

    @property
    def is_out(self) -> bool:
        """See `Hunt.is_out`."""
        return bool(self.out)

    def next(self) -> dict[str, TrialJob]:
        """See `Hunt.next`. What decides between candidates that are trained already is always paid for; what else is
        too much is told to have failed, so that the generation ends."""
        while not self.out and (trials := self.search.ask()):
            for trial in trials:
                flops = (trial.steps - trial.done) * step_flops(self.search.document(trial))
                if trial.repeat or self._can_pay(flops):
                    self._spend(flops)
                    self.out[trial.id] = trial
                else:
                    self.search.tell({trial: Evaluation("timeout", "the search's total is spent")})
            if not self.out and any(not trial.repeat and trial.rung == trial.entry for trial in trials):
                break  # no new candidate can be paid for, and the generation before is placed
        self.is_over = not self.out
        return {id: self._job(trial) for id, trial in self.out.items()}

    def tell(self, id: str, outcome: Outcome) -> None:
        """See `Hunt.tell`."""
        self.search.tell({self.out.pop(id): self._note(outcome)})

    def best(self) -> tuple[str, float | None]:
        """See `Hunt.best`: by objective, of the generations that are placed."""
        best = self.search.archives.best()
        if best is None:  # the time was not enough for the seed
            return self.document, None
        scores = self.search.journal.evaluation(best.trial, with_snapshot=False)
        assert scores is not None
        return self.search.journal.candidate(best.id).document, scores.scores["bits_per_byte"]

    def _job(self, trial: Trial) -> TrialJob:
        """Without a snapshot where nobody inherits."""
        job = replace(self.search.job(trial), max_seconds=self.setting.most_s)
        return job if self.search.evolve.inherit else replace(job, tolerance=None)


@dataclass
class Grid(Hunt):
    """A grid over rate, width and depth of the baseline, of documents that cost what children may, in random order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.left = list(self._documents())
        random.Random(self.seed).shuffle(self.left)
        self.out: dict[str, str] = {}
        self.scores = list[tuple[float, str]]()

    @property
    def is_out(self) -> bool:
        """See `Hunt.is_out`."""
        return bool(self.out)

    def next(self) -> dict[str, TrialJob]:
        """See `Hunt.next`: all at once."""
        jobs, self.is_over = dict[str, TrialJob](), True
        while self.left:
            text = self.left.pop()
            document = parse(text).document
            course = Course.of(whole_steps(self.budget, document))
            flops = course.steps * step_flops(document)
            if not self._can_pay(flops):
                self.left.clear()
                break
            self._spend(flops)
            id = str(self.trained)
            self.out[id] = text
            job = TrialJob(text, self.setting.root, self.setting.device, course=course, tolerance=None)
            jobs[id] = replace(job, max_seconds=self.setting.most_s)
        return jobs

    def tell(self, id: str, outcome: Outcome) -> None:
        """See `Hunt.tell`."""
        text, evaluation = self.out.pop(id), self._note(outcome)
        if not evaluation.cause:
            self.scores.append((evaluation.scores["bits_per_byte"], text))

    def best(self) -> tuple[str, float | None]:
        """See `Hunt.best`."""
        score, text = min(self.scores, default=(None, self.document))
        return text, score

    def _documents(self) -> Iterator[str]:
        begun, seed = (parse(text).document for text in (self.document, self.setting.plain(search_text(self.corpus))))
        width, (body, *_) = seed.organism.width, seed.organism.stages
        depths = sorted({max(1, round(share * body.repeat)) for share in DEPTHS})
        costs = cost_range(EvolveSpec(shrink=self.setting.shrink), [resolve(begun.organism)])
        for share, repeat, rate in itertools.product(WIDTHS, depths, RATES):
            sized = {("organism", "width"): round(share * width), ("organism", "stages", 0, "repeat"): repeat}
            made = replaced(seed, {**sized, ("train", "optimizer", "lr"): rate})
            if costs.holds(resolve(made.organism)):
                yield to_yaml(made)


def hunt(arm: str, corpus: str, seed: int, setting: Setting) -> Hunt:
    """The search of an arm."""
    return (Grid if arm == GRID else Evolving)(arm, corpus, seed, setting)
