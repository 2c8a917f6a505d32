"""Loops that tokens leave by themselves: Graves's rule written out token by token, decoding, causality."""

from __future__ import annotations

import pytest
import torch
from block_variants import inputs
from loops import model
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.loop.halting import HaltingLoop
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

HALT = {"times": 5, "halt": {"threshold": 0.8, "loss": 0.3}}


def looped(found: Organism) -> HaltingLoop:
    loop = found.stages["think"]
    assert isinstance(loop, HaltingLoop)
    return loop


def written_out(loop: HaltingLoop, x: Tensor, times: int) -> tuple[Tensor, Tensor, list[int]]:
    """Graves 1603.08983, eqs. 5 to 13, for each token: outputs, the mean of N + R, and N of the tokens."""
    states, s = [], x
    halted = [[False] * x.shape[1] for _ in x]
    sums = [[x.new_zeros(()) for _ in row] for row in x]
    outputs = [[torch.zeros_like(token) for token in row] for row in x]
    ponder, taken = x.new_zeros(()), []
    for n in range(1, times + 1):
        new = loop.of[0].run({"x": [s + x]}, Flow()).value()
        s = torch.stack(
            [torch.stack([s[b, t] if halted[b][t] else new[b, t] for t in range(x.shape[1])]) for b in range(len(x))]
        )
        states.append(s)
        for b in range(len(x)):
            for t in range(x.shape[1]):
                if halted[b][t]:
                    continue
                h = torch.sigmoid(loop.halt[0] @ s[b, t] + loop.halt_bias[0])
                if n == times or sums[b][t] + h >= 0.8:
                    rest = 1 - sums[b][t]
                    outputs[b][t] = outputs[b][t] + rest * s[b, t]
                    ponder, halted[b][t] = ponder + n + rest, True
                    taken.append(n)
                else:
                    outputs[b][t] = outputs[b][t] + h * s[b, t]
                    sums[b][t] = sums[b][t] + h
    return torch.stack([torch.stack(row) for row in outputs]), ponder / x[..., 0].numel(), taken


def test_tokens_stop_by_themselves() -> None:
    """Outputs, the loss of turns, and the gradients of both; tokens stop at different turns."""
    loop, x = looped(model(**HALT)), inputs(10).requires_grad_()
    with torch.no_grad():
        loop.halt.copy_(torch.randn(loop.halt.shape, generator=torch.Generator().manual_seed(5)).double() * 0.5)
        loop.halt_bias.fill_(-0.7)
    flow = Flow()
    found = loop.run({"x": [x]}, flow).value()
    wanted, ponder, taken = written_out(loop, x, 5)
    assert len(set(taken)) > 2
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(flow.losses["ponder"], 0.3 * ponder)
    leaves = [x, *loop.parameters()]
    got = torch.autograd.grad(found.square().sum() + flow.losses["ponder"], leaves)
    expected = torch.autograd.grad(wanted.square().sum() + 0.3 * ponder, leaves)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_decoding_stops_at_the_same_turns() -> None:
    """Token by token equals the whole, and nothing leaks."""
    whole = model(**HALT, score_times=4)
    assert find_leak(whole) is None
    rows = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for part in rows.split([5, 1, 6], dim=1):
        logits, state = whole.extend(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows))


@pytest.mark.parametrize("bad", [{"times": 1}, {"backprop": 1, "start": "zeros"}])
def test_what_cannot_halt_is_refused(bad: dict[str, object]) -> None:
    """A loop that runs once, and one whose early turns have no gradient."""
    with pytest.raises(AssertionError, match="EVO352"):
        model(halt={}, **bad)


def test_the_body_is_what_it_was() -> None:
    """A probability of 1 at once makes the loop its first turn."""
    loop, x = looped(model(**HALT)), inputs(10)
    with torch.no_grad():
        loop.halt.zero_()
        loop.halt_bias.fill_(50.0)
    torch.testing.assert_close(loop.run({"x": [x]}, Flow()).value(), loop.of[0].run({"x": [x + x]}, Flow()).value())
