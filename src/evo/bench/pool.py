"""What a pool costs, and what its life adds: one training step beside attention of the same heads, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from evo.base.intervals import Interval, mean_interval
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.dsl.document import from_data
from evo.slime.elites import encoded
from evo.tasks.base import open_task
from evo.training.loop import Trainer

WAYS = ("attention", "static pool", "living pool")
CELLS = 1000
ELITE_WIDTH, ELITE_HEAD = 512, 64


@dataclass(frozen=True)
class Setting:
    """Which sizes are measured on a device.

    tokens: of a step. cases: slots and context of each row. every: steps between looks. cull_every: steps between times
    of dying, and of a round, which so has all that a life has.
    """

    width: int
    layers: int
    tokens: int
    cases: tuple[tuple[int, int], ...]
    every: int
    cull_every: int


SETTINGS = {
    "cpu": Setting(64, 1, 64, ((4, 32), (8, 32)), every=16, cull_every=32),
    "cuda": Setting(
        512, 4, 4096,
        (*((slots, T) for slots in (8, 64) for T in (128, 256, 512, 1024)), (16, 256), (32, 256)),
        every=100, cull_every=1000,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class PoolRow:
    """Milliseconds a step by way, the mean over rounds. static: static pool over attention; living: living over static
    pool: of ratios within a round. births, deaths: of all pools, so far. mode: how living steps were carried out."""

    slots: int
    context: int
    milliseconds: dict[str, float]
    static: Interval
    living: Interval
    births: int
    deaths: int
    mode: str


def measure(device: str, rounds: int, setting: Setting | None = None) -> list[PoolRow]:
    """Time all ways in turn, round after round, for each number of slots and each context."""
    chosen = setting or SETTINGS[device]
    return [_row(device, rounds, chosen, slots, T) for slots, T in chosen.cases]


def elites_megabytes(count: int = 4) -> float:
    """MB of 1,000 elites of a head of 64 at width 512: measured on some whose weights are as they are drawn, and so of
    full rank, which is the most they can take."""
    generator = torch.Generator().manual_seed(0)
    shapes = dict.fromkeys("qkv", (ELITE_HEAD, ELITE_WIDTH)) | {"o": (ELITE_WIDTH, ELITE_HEAD)}
    drawn = {
        name: torch.randn(count, *shape, generator=generator) * ELITE_WIDTH**-0.5 for name, shape in shapes.items()
    }
    return sum(genome.nbytes for genome in encoded(drawn)) / count * CELLS / 1e6


def cells(rows: Sequence[PoolRow]) -> list[tuple[str, ...]]:
    """The rows of a table to print, heading first."""
    ratios = ("static / attention", "living / static")
    heading = ("slots", "T", *(f"{way}, ms" for way in WAYS), *ratios, "births", "deaths", "steps")
    return [
        heading,
        *(
            (
                str(row.slots), str(row.context), *(f"{row.milliseconds[way]:.2f}" for way in WAYS),
                _ratio(row.static), _ratio(row.living), str(row.births), str(row.deaths), row.mode,
            )
            for row in rows
        ),
    ]  # fmt: skip


def _row(device: str, rounds: int, setting: Setting, slots: int, context: int) -> PoolRow:
    trainers = {way: _trainer(device, setting, slots, context, way) for way in WAYS}
    for trainer in trainers.values():  # the second look is the first that is captured
        _milliseconds(trainer, 2 * setting.every + setting.every // 2)
    found = [
        {way: _milliseconds(trainer, setting.cull_every) for way, trainer in trainers.items()} for _ in range(rounds)
    ]
    living = trainers["living pool"]
    counts = {} if living.companion is None else living.companion.figures()
    return PoolRow(
        slots,
        context,
        {way: statistics.fmean(times[way] for times in found) for way in WAYS},
        mean_interval([times["static pool"] / times["attention"] for times in found]),
        mean_interval([times["living pool"] / times["static pool"] for times in found]),
        int(counts["births"]),
        int(counts["deaths"]),
        living.step_mode,
    )


def _ratio(ratio: Interval) -> str:
    return f"{ratio.mean:.3f} \N{PLUS-MINUS SIGN} {ratio.half_width:.3f}"


def _trainer(device: str, setting: Setting, slots: int, context: int, way: str) -> Trainer:
    heads = {"kind": "attention", "heads": slots, "head_dim": max(8, setting.width // slots)}
    pool = {"kind": "pool", "slots": slots, "alive": slots * 3 // 4, "of": {**heads, "heads": 1}}
    life = {
        "kind": "annealed", "every": setting.every, "cull_every": setting.cull_every, "warmup": 0, "gentle": 0,
        "cells": CELLS,
    }  # fmt: skip
    mix = heads if way == WAYS[0] else pool
    train = {"steps": 10**7, "batch": max(1, setting.tokens // context), **({"life": life} if way == WAYS[2] else {})}
    stage = {"name": "body", "repeat": setting.layers, "mix": mix}
    organism = {"width": setting.width, "context": context, "stages": [stage]}
    document = from_data({"evo": 1, "organism": organism, "train": train}).document
    model = build(resolve(document.organism), 0, device)
    return Trainer(model, open_task(document.train.task, Path()), document.train)


def _milliseconds(trainer: Trainer, steps: int) -> float:
    """Of one step, on average over so many."""
    _wait(trainer)
    began = time.perf_counter()
    trainer.run(trainer.step + steps)
    _wait(trainer)
    return 1e3 * (time.perf_counter() - began) / steps


def _wait(trainer: Trainer) -> None:
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
