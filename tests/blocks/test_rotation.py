"""Rotary positions: lengths, relative positions, gradients of both orders, tables."""

from __future__ import annotations

import math

import pytest
import torch

from evo.blocks.base import Position
from evo.blocks.position.module import Rope, turn
from evo.blocks.position.scaling import YarnScaling
from evo.blocks.position.spec import RopePlan, RopeSpec, slopes_of
from evo.compiler.build import make
from evo.dsl.spec import Scope

FREQUENCIES = (1.0, 0.1, 0.01)


def rope(amplitude: float = 1.0) -> Rope:
    return Rope(RopePlan(kind="rope", frequencies=FREQUENCIES, amplitude=amplitude), {})


def heads(time: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, time, 3, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_turn_keeps_lengths_and_leaves_the_rest():
    """Each pair keeps its length, the dimensions beyond the pairs their values, position 0 everything."""
    x = heads(5)
    y, _ = rope().rotate(x, x, 0)
    torch.testing.assert_close(y[..., :3].hypot(y[..., 3:6]), x[..., :3].hypot(x[..., 3:6]))
    assert torch.equal(y[..., 6:], x[..., 6:])
    assert torch.equal(y[:, 0], x[:, 0])


def test_amplitude_lengthens_what_turns():
    """YaRN's amplitude multiplies the turned pairs, and nothing else."""
    x = heads(5)
    y, plain = rope(1.3).rotate(x, x, 2)[0], rope().rotate(x, x, 2)[0]
    torch.testing.assert_close(y[..., :6], 1.3 * plain[..., :6])
    assert torch.equal(y[..., 6:], x[..., 6:])


def test_scores_depend_on_distance_alone():
    """q at t times k at s is the same when both move by any offset, also one far beyond the first table."""
    q, k, encoding = heads(6), heads(6, seed=1), rope(1.3)
    scores = [torch.einsum("bthk,bshk->bhts", *encoding.rotate(q, k, offset)) for offset in (0, 3, 100_000)]
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2], rtol=1e-8, atol=1e-8)


def test_an_offset_is_a_slice():
    """Turning the tail of a sequence at its offset is the tail of turning it whole."""
    x, encoding = heads(9), rope()
    assert torch.equal(encoding.rotate(x[:, 4:], x[:, 4:], 4)[0], rope().rotate(x, x, 0)[0][:, 4:])


def test_first_and_second_gradients():
    """Both orders pass finite differences."""
    angle = torch.arange(4, dtype=torch.float64)[:, None, None] * torch.tensor(FREQUENCIES, dtype=torch.float64)
    x = heads(4).requires_grad_()
    torch.autograd.gradcheck(lambda x: turn(x, angle.cos(), angle.sin()), (x,))
    torch.autograd.gradgradcheck(lambda x: turn(x, angle.cos(), angle.sin()), (x,))


def test_float32_angles_are_exact_far_out():
    """At position 100,000 a float32 rotation still agrees with the float64 one to float32 precision."""
    x, encoding = heads(2), rope()
    exact, _ = encoding.rotate(x, x, 100_000)
    single, _ = encoding.rotate(x.float(), x.float(), 100_000)
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-5)


def test_yarn_is_finite_for_a_base_next_to_one():
    """Where hardly any pair turns, the borders of the ramp lie beyond all pairs, not at infinity."""
    frequencies = YarnScaling(factor=4.0).frequencies(1.0 + 2**-52, 16, 64)
    assert len(frequencies) == 8
    assert all(math.isfinite(frequency) for frequency in frequencies)


def test_published_slopes_of_twelve_heads():
    """Those of eight heads, then every other one of sixteen (Press et al.'s code, BLOOM, MPT)."""
    finer = [2.0 ** (-0.5 * h) for h in range(1, 17)]
    assert slopes_of(12) == pytest.approx([*(2.0**-h for h in range(1, 9)), *finer[0:8:2]])
    assert slopes_of(8) == [2.0**-h for h in range(1, 9)]


def test_neighbours_are_halves_in_another_order():
    """Pairs side by side turn as pairs half the width apart do, the channels put in order."""
    turned = {}
    x = torch.randn(1, 5, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = torch.arange(8).view(4, 2).T.flatten()
    for pairs in ("halves", "neighbours"):
        rope = make(RopeSpec(pairs=pairs).for_heads(Scope(16, 32, 1, RopeSpec()), 2, 8))
        assert isinstance(rope, Position)
        given = x[..., order] if pairs == "halves" else x
        turned[pairs] = rope.rotate(given, given, 3)[0]
    torch.testing.assert_close(turned["neighbours"][..., order], turned["halves"])


@pytest.mark.parametrize("options", [{}, {"pairs": "neighbours", "at": "last", "dims": 6}, {"decay": 9.0, "dims": 4}])
def test_turned_values_come_back_by_their_distance(options: dict):
    """A value turned at s, seen and turned back at t, is the same wherever both move, and itself where they meet."""
    plan = RopeSpec(**options).for_heads(Scope(width=8, context=64, depth=1, position=RopeSpec()), 3, 8)
    encoding, v = make(plan), heads(6)
    assert isinstance(encoding, Position)
    seen = [
        torch.stack([encoding.rotate_back(turned[:, s : s + 1], offset + t) for s in range(6) for t in (2, 5)])
        for offset in (0, 7)
        for turned in [encoding.rotate(v, v, offset)[1]]
    ]
    torch.testing.assert_close(*seen)
    torch.testing.assert_close(encoding.rotate_back(encoding.rotate(v, v, 3)[1], 3), v)
