"""What pools and their life add to a step, counted in operations: where steps are small, launches are their time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from launches import Launches
from living import LIFE, POOL, trainer
from tiny_models import document

from evo.training.captured import DeviceStep
from evo.training.half_weights import HalfWeights

LAYERS = 3
HEADS: dict[str, Any] = {"kind": "attention", "heads": 4, "head_dim": 4}


def counted(mix: dict[str, Any], monkeypatch: pytest.MonkeyPatch, **train: Any) -> Launches:
    """The operations of a step as a GPU would carry it out: with half-precision copies, and some of it aside."""
    training = trainer(document(mix, train={"steps": 8, "precision": "bf16", **train}, stage={"repeat": LAYERS}))
    source = training.task.on_device(training.device)
    assert source is not None
    step = DeviceStep(
        training.model, source, training.spec, training.context, training.optimizer, training.rate,
        companion=training.companion,
    )  # fmt: skip
    step.half = HalfWeights(torch.bfloat16, step.side)
    training.model.train()
    step.take(0)
    with Launches() as counts:
        monkeypatch.setattr(step.side, "launch", counts.within)
        step.body()
    return counts


def test_a_pool_adds_a_launch_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside attention of the same heads: gains are folded into the copy of the output map, and what they and the map
    learn is found aside."""
    attention, static = counted(HEADS, monkeypatch), counted({**POOL, "of": {**HEADS, "heads": 1}}, monkeypatch)
    assert static.on_the_way - attention.on_the_way == Counter(mul=LAYERS)
    assert static.aside - attention.aside == Counter(mul=3 * LAYERS, sum=LAYERS, ne=LAYERS)


def test_life_adds_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pools live: gains times their gradients; averages and losses are noted aside."""
    pool = {**POOL, "of": {**HEADS, "heads": 1}}
    static, living = counted(pool, monkeypatch), counted(pool, monkeypatch, life=LIFE)
    assert living.on_the_way - static.on_the_way == Counter(_foreach_mul=1)
    assert living.aside - static.aside == Counter(("_foreach_mul_", "_foreach_lerp_", "cat", "copy_"))
