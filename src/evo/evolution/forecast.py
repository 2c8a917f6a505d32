"""What a search will take, before it begins: candidates, sizes, and the time of a few measured steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from evo.compiler.compute import step_flops, step_tokens, whole_steps
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, parse
from evo.engines.jobs import one_thread
from evo.evolution.settings import Settings
from evo.tasks.base import open_task
from evo.training.setup import make_trainer

WARM, MEASURED = 1, 3
"""Steps that are taken before the clock runs, and with it."""
CONTESTANTS = 4
"""The most that a verdict trains: two winners and two seeds."""
ARMS = 2
"""More of a winner that inherits: with what it inherited, and from scratch for the compute of both."""
STATE_BYTES = 16
"""Of a parameter in training: itself, its gradient and two moments, in fp32."""


@dataclass(frozen=True)
class SeedForecast:
    """One seed. memory_bytes: weights, gradients, moments and what is kept for the backward pass, by the plan.

    steps: of a candidate like it. flops: of training one. setup_s, step_s: measured here. score_s: of its held-out
    score, a forward pass being a third of a step.
    """

    name: str
    parameters: int
    memory_bytes: float
    steps: int
    flops: float
    setup_s: float
    step_s: float
    score_s: float

    @property
    def train_s(self) -> float:
        """Seconds for one candidate like this seed."""
        return self.setup_s + self.steps * self.step_s + self.score_s


@dataclass(frozen=True)
class Forecast:
    """A search. candidates: seeds included. verdict_trainings: at the end at most.

    flops, seconds: of all, wall time, as if every candidate cost what the seeds do and were trained whole and once.
    """

    candidates: int
    verdict_trainings: int
    workers: int
    seeds: tuple[SeedForecast, ...]
    flops: float
    seconds: float


def forecast(settings: Settings) -> Forecast:
    """Measure a few steps of each seed, one after the other, and count.

    Raises:
        DiagnosticError: no such corpus (EVO500), device (EVO510) or kernels (EVO511).
    """
    evolve = settings.evolve
    with one_thread():  # as workers do: several threads may be several times faster, or slower
        seeds = tuple(_of_seed(settings, parse(text).document) for text in settings.seeds)
    children = evolve.generations * evolve.population
    mean_s = sum(seed.train_s for seed in seeds) / len(seeds)
    mean_flops = sum(seed.flops for seed in seeds) / len(seeds)
    verdict = evolve.verify.seeds * (CONTESTANTS + (ARMS if settings.founders else 0))
    trainings = len(seeds) + children + verdict
    return Forecast(
        candidates=len(seeds) + children,
        verdict_trainings=verdict,
        workers=settings.workers,
        seeds=seeds,
        flops=trainings * mean_flops,
        seconds=trainings * mean_s / max(1, settings.workers),
    )


def _of_seed(settings: Settings, document: Document) -> SeedForecast:
    steps = whole_steps(settings.train_budget, document)
    task = open_task(document.train.task, Path(settings.root))
    task.require(document.context)
    marks = [time.perf_counter()]
    trainer = make_trainer(document, task, settings.device, kernels=settings.kernels, steps=max(steps, WARM + MEASURED))
    marks.append(time.perf_counter())
    for until in (WARM, WARM + MEASURED):
        trainer.run(until=until)
        marks.append(time.perf_counter())
    step_s = (marks[3] - marks[2]) / MEASURED
    plan = resolve(document.organism)
    return SeedForecast(
        name=document.name or "seed",
        parameters=plan.parameters,
        memory_bytes=training_bytes(plan, document),
        steps=steps,
        flops=steps * step_flops(document),
        setup_s=marks[1] - marks[0],
        step_s=step_s,
        score_s=settings.budget.held_out_tokens / step_tokens(document) * step_s / 3,
    )


def training_bytes(plan: Plan, document: Document) -> float:
    """What training holds at once, in fp32; half precision keeps less for the backward pass."""
    is_remade = document.train.activation_checkpointing
    kept = plan.activations_between_layers if is_remade else plan.activations_per_token
    return STATE_BYTES * plan.parameters + 4 * kept * step_tokens(document)
