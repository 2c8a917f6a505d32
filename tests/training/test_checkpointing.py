"""Layers that are run again in the backward pass: the same losses, gradients and draws, and less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import MIXERS, document, model, task
from torch.autograd.graph import saved_tensors_hooks

from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.evolution.forecast import STATE_BYTES, training_bytes
from evo.training.loop import Trainer

DROPOUT = {"attention": 0.2, "residual": 0.1, "embedding": 0.3, "block": 0.2}
ROUTED = {"route": [MIXERS["attention"], MIXERS["convolution"]], "top_k": 1, "balance": 0.1}
LAYERS = {"activation_checkpointing": True}
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def trainer(mix: Any = None, device: str = "cpu", mode: str = "auto", stage: Any = None, **train: Any) -> Trainer:
    """A trainer of a fresh tiny model."""
    made = document(mix, train=train, stage=stage)
    return Trainer(model(mix, train=train, stage=stage).to(device), task(), made.train, mode=mode)


def step_of(run: Trainer) -> tuple[list[torch.Tensor], int]:
    """The losses and all gradients of a step, and how many distinct numbers its forward pass kept besides weights."""
    kept = {}
    weights = {parameter.data_ptr() for parameter in run.model.parameters()}

    def note(x: torch.Tensor) -> torch.Tensor:
        if x.data_ptr() not in weights:
            kept[x.data_ptr()] = x
        return x

    run.model.train()
    with saved_tensors_hooks(note, lambda x: x):
        losses = run.losses(0)
    losses.total.backward()
    gradients = [parameter.grad for parameter in run.model.parameters() if parameter.grad is not None]
    return [losses.task.detach(), *losses.auxiliary.values(), *gradients], sum(x.numel() for x in kept.values())


@pytest.mark.parametrize("mix", [*MIXERS.values(), ROUTED], ids=[*MIXERS, "routed"])
def test_losses_and_gradients_are_the_same_and_less_is_kept(mix: Any) -> None:
    """To the byte, auxiliary losses and everything that dropout zeroes included."""
    plain, again = trainer(mix, dropout=DROPOUT), trainer(mix, dropout=DROPOUT, **LAYERS)
    (expected, all_kept), (found, kept) = step_of(plain), step_of(again)
    assert len(expected) == len(found)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))
    assert kept < all_kept / 2


@pytest.mark.parametrize("repeat", [{"repeat": 2}, {"repeat": 3, "share": True}], ids=str)
def test_segments_go_on_from_the_same_states(repeat: dict[str, Any]) -> None:
    """A layer that is run again finds what the segment before kept for it, however often its weights have run since."""
    layers = {"name": "inner", "mix": [MIXERS["attention"], {"kind": "recurrence", "heads": 2}], **repeat}
    stages = [{"name": "body", "kind": "segments", "hand": "states", "every": 5, "of": layers}]
    made = [document(train=train, stages=stages) for train in ({}, LAYERS)]
    expected, found = (step_of(Trainer(build(resolve(one.organism), 0), task(), one.train))[0] for one in made)
    assert len(expected) == len(found)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


@pytest.mark.parametrize("stage", [{"share": True}, {"norm": {"kind": "rms", "place": "sandwich"}}], ids=str)
def test_whole_trainings_end_at_the_same_bytes(stage: dict[str, Any]) -> None:
    """Also with layers that share weights, and with norms behind the blocks."""
    plain, again = trainer(stage=stage, dropout=DROPOUT), trainer(stage=stage, dropout=DROPOUT, **LAYERS)
    assert plain.run() == again.run()
    for one, two in zip(plain.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_estimate_of_memory_counts_one_layer() -> None:
    """However many there are: each further one keeps the residual stream alone."""
    found = []
    for repeat in (2, 3):
        made = document(stage={"repeat": repeat}, train=LAYERS)
        plan = resolve(made.organism)
        found.append(training_bytes(plan, made) - STATE_BYTES * plan.parameters)
    assert found[1] - found[0] == 4 * plan.width * made.train.batch * made.context
    assert found[1] < training_bytes(plan, document(stage={"repeat": 3})) - STATE_BYTES * plan.parameters


class TestOnGpu:
    """Captured steps on a CUDA device."""

    pytestmark = on_gpu

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("mix", [*MIXERS.values(), ROUTED], ids=[*MIXERS, "routed"])
    def test_captured_steps_forget_layers_too(self, mix: Any, precision: str) -> None:
        """The steps are captured, and end at the loss of steps that keep everything."""
        settings = {"dropout": DROPOUT, "precision": precision, "steps": 20}
        plain, again = (trainer(mix, "cuda", "captured", **settings, **more) for more in ({}, LAYERS))
        assert again.run() == pytest.approx(plain.run(), rel=1e-3 if precision == "fp32" else 3e-2)
        assert again.step_mode == "captured"
