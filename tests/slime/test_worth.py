"""Fitness means something: it ranks pseudopods as taking each of them out ranks them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from living import life_of, living, trainer
from scipy.stats import spearmanr

from evo.slime.behaviour import measure, projection
from evo.slime.fitness import worth
from evo.slime.glance import listening
from evo.slime.spec import WorthSpec

SLOTS, SEEDS = 8, 4


def correlations(seed: int) -> tuple[float, float]:
    """The rank correlations of fitness, and of its task term, with the rise of the held-out loss without each slot."""
    settings = {"seed": seed, "batch": 4, "optimizer": {"kind": "adamw", "lr": 3e-3}}
    made = living({"slots": SLOTS, "alive": None}, steps=60, train=settings, every=30, warmup=1000)
    training = trainer(made)
    training.run()
    life = life_of(training)
    (colony,) = life.colonies
    batches = [training.task.batch(10_000 + index, 16, 24, training.stream) for index in range(8)]

    @torch.no_grad()
    def loss() -> float:
        return float(np.mean([float(training.model.loss(b.inputs_BT, b.targets_BT)) for b in batches]))

    whole, rises, gain_P = loss(), [], colony.pool.gain.data
    for slot in range(SLOTS):
        kept, gain_P[slot] = float(gain_P[slot]), 0.0
        rises.append(loss() - whole)
        gain_P[slot] = kept
    with listening(life.colonies) as looks:
        training.model(training._row(0))
    colony.vitals.look()
    look = looks[colony.path]
    drawn_D = projection(look.x_TD.shape[1], training.stream)
    measures = measure(colony.pool, look, colony.vitals.gradient_P, drawn_D).double().numpy()
    squares = [values_P.double().numpy() for values_P in (colony.vitals.task_P, colony.vitals.gradient_P)]
    found = worth(*squares, measures[:, -1], np.ones(SLOTS, dtype=bool))
    ranked = (found.fitness(WorthSpec()), found.task_P)
    return tuple(float(spearmanr(values_P, rises).statistic) for values_P in ranked)  # type: ignore[return-value]


@pytest.mark.slow
def test_fitness_ranks_as_leaving_out_ranks() -> None:
    """The mean rank correlation over seeds is above 1/2, of the whole and of its task term alone."""
    fitness, task = np.mean([correlations(seed) for seed in range(SEEDS)], axis=0)
    assert fitness > 0.5
    assert task > 0.5
