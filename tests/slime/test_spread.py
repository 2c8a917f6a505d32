"""Slots on several devices: the same pool, wherever they stand, and after a device is lost."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "blocks"))

from block_variants import ATTENTION, CONVOLUTION, block_of, built, inputs, plan

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.pool.module import Pool
from evo.slime.spread import Spread

SLOTS = 6
OF: dict[str, Any] = {"attention": {**ATTENTION, "heads": 1, "head_dim": 4}, "convolution": CONVOLUTION}


def parts(of: dict[str, Any]) -> tuple[Pool, Block]:
    """A pool in float64, one slot of it empty, and a block like one of its slots."""
    whole = cast(
        Pool, built(block_of(plan([{"name": "s", "mix": {"kind": "pool", "slots": SLOTS, "of": of}}]), "mixer"))
    )
    with torch.no_grad():
        whole.gain[2] = 0.0
    return whole, built(block_of(plan([{"name": "s", "mix": of}]), "mixer"))


def check(spread: Spread, whole: Pool) -> None:
    """Values and gradients of both. What a pool reads has been computed: of a leaf that is sent to another device,
    torch warns that its gradient comes from there."""
    x_BTD = inputs().to(whole.gain.device).requires_grad_(True).clone()
    found, expected = spread(x_BTD), whole(x_BTD, Flow())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    cotangent = inputs(seed=4).to(expected.device)
    ours = torch.autograd.grad((found * cotangent).sum(), [x_BTD, spread.gain])
    torch.testing.assert_close(
        ours, torch.autograd.grad((expected * cotangent).sum(), [x_BTD, whole.gain]), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("of", OF.values(), ids=OF)
def test_a_spread_pool_is_the_pool(of: dict[str, Any]) -> None:
    """On three simulated devices; each slot stands on one; without one of them all stand on the others."""
    whole, one = parts(of)
    spread = Spread(whole, one, {slot: 10 * slot for slot in range(SLOTS)}, ["cpu:0", "cpu:1", "cpu:2"])
    assert sorted(slot for slots in spread.by_device.values() for slot in slots) == list(range(SLOTS))
    assert sum(map(bool, spread.by_device.values())) > 1
    check(spread, whole)
    spread.place(["cpu:0", "cpu:2"])
    assert set(spread.by_device) == {"cpu:0", "cpu:2"}
    check(spread, whole)


def test_what_a_lost_device_held_comes_from_what_was_saved() -> None:
    """Slots whose weights cannot be read any more get those that are handed in; the others keep theirs."""
    whole, one = parts(OF["convolution"])
    spread = Spread(whole, one, dict.fromkeys(range(3), 0) | dict.fromkeys(range(3, 6), 1), ["cpu:0", "cpu:1"])
    (lost,) = [slots for slots in spread.by_device.values() if 0 in slots]
    assert 0 < len(lost) < SLOTS
    saved = {slot: copy.deepcopy(spread.slots[slot].state_dict()) for slot in lost}
    for slot in lost:
        spread.slots[slot].to_empty(device="meta")
    spread.place([device for device, slots in spread.by_device.items() if slots is not lost], saved)
    check(spread, whole)
    with pytest.raises(ValueError, match="no device"):
        spread.place([])
    with pytest.raises(ValueError, match="6 slots"):
        Spread(whole, one, {0: 0}, ["cpu"])


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("of", OF.values(), ids=OF)
def test_two_gpus_hold_one_pool(of: dict[str, Any]) -> None:
    """Slots on both, the same values and gradients; then all on the one that is left."""
    whole, one = (block.cuda() for block in parts(of))
    spread = Spread(whole, one, {slot: 10 * slot for slot in range(SLOTS)}, ["cuda:0", "cuda:1"])
    assert {p.device.index for p in spread.slots.parameters()} == {0, 1}
    check(spread, whole)
    spread.place(["cuda:0"])
    assert {p.device.index for p in spread.slots.parameters()} == {0}
    check(spread, whole)
