"""Cycles: a fast and a slow state written out, cut gradients, decoding, costs, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import document, moved, organism, plan, stage
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.cycles.module import Cycles
from evo.compiler.check import check
from evo.compiler.organism import Organism, OrganismState
from evo.dsl.document import from_data
from evo.training.causality import find_leak

ATTENTION, CONVOLUTION = {"kind": "attention", "heads": 2}, {"kind": "convolution"}
SMALL = {"kind": "gated", "ratio": 1.0}
FAST, SLOW = stage("fast", ATTENTION, ffn=SMALL), stage("slow", CONVOLUTION, repeat=2, ffn=SMALL)


def around(**cycles: Any) -> list[dict[str, Any]]:
    """A prelude, the cycles and a coda."""
    middle = {"name": "think", "kind": "cycles", "of": FAST, **cycles}
    return [stage("prelude", CONVOLUTION), middle, stage("coda", CONVOLUTION)]


def model(**cycles: Any) -> Organism:
    """The same in float64, with every weight moved."""
    return moved(organism(around(**cycles)))


def thinking(found: Organism) -> Cycles:
    part = found.stages["think"]
    assert isinstance(part, Cycles)
    return part


def inputs() -> Tensor:
    return torch.randn(2, 10, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def hrm(part: Cycles, x: Tensor, times: int, turns: int, through: int | None = None) -> Tensor:
    """z_L <- f(z_L + z_H), turns times, then z_H <- g(z_H + z_L): HRM's text form, z_H begins as x.

    through: how many of the last turns have a graph.
    """
    high, low = x, torch.zeros_like(x) if part.start is None else part.start.expand(x.shape)
    for _ in range(times):
        for turn in range(turns):
            with torch.set_grad_enabled(through is None or turn >= turns - through):
                low = part.fast[0].run({"x": [low + high]}, Flow()).value()
        high = part.slow[0].run({"x": [high + low]}, Flow()).value()
    return high


def trm(part: Cycles, x: Tensor, times: int, turns: int) -> Tensor:
    """z <- net(x + y + z), turns times, then y <- net(y + z), with one network (2510.04871, figure 3)."""
    assert part.slow_start is not None
    net, y, z = part.fast[0], part.slow_start.expand(x.shape), torch.zeros_like(x)
    for _ in range(times):
        for _ in range(turns):
            z = net.run({"x": [x + y + z]}, Flow()).value()
        y = net.run({"x": [y + z]}, Flow()).value()
    return y


@pytest.mark.parametrize("start", ["zeros", "learned"])
def test_a_fast_and_a_slow_state(start: str) -> None:
    """Values and gradients of two stages are those of HRM's loop."""
    part, x = thinking(model(slow=SLOW, times=2, turns=3, start=start)), inputs()
    ours, theirs = part.run({"x": [x]}, Flow()).value(), hrm(part, x, 2, 3)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    found, wanted = (torch.autograd.grad(y.square().sum(), list(part.parameters())) for y in (ours, theirs))
    torch.testing.assert_close(found, wanted)


def test_one_network_for_both_states() -> None:
    """Without `slow`, and with x at every turn, it is TRM's loop; the network's weights are there once."""
    part, x = thinking(model(times=3, turns=2, inject="always")), inputs()
    torch.testing.assert_close(part.run({"x": [x]}, Flow()).value(), trm(part, x, 3, 2), rtol=1e-12, atol=1e-12)
    assert {name.split(".")[0] for name, _ in part.named_parameters()} == {"of_fast", "slow_start"}


def test_gradients_flow_through_the_last_turns_alone() -> None:
    """With `backprop: 1` they are those of a pass whose earlier turns have no graph."""
    part, x = thinking(model(slow=SLOW, turns=3, backprop=1)), inputs()
    parameters = list(part.parameters())
    ours = torch.autograd.grad(part.run({"x": [x]}, Flow()).value().square().sum(), parameters)
    theirs = torch.autograd.grad(hrm(part, x, 2, 3, through=1).square().sum(), parameters)
    torch.testing.assert_close(ours, theirs)
    whole = torch.autograd.grad(hrm(part, x, 2, 3).square().sum(), parameters)
    assert not torch.allclose(ours[0], whole[0])


@pytest.mark.parametrize("cycles", [{"slow": SLOW}, {"inject": "always", "times": 1, "turns": 2}])
def test_decoding_keeps_a_state_a_turn(cycles: dict[str, Any]) -> None:
    """Token by token equals the whole, and nothing leaks."""
    whole = model(**cycles)
    assert find_leak(whole) is None
    rows = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for part in rows.split([5, 1, 6], dim=1):
        logits, state = whole.extend(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows))


def test_cycles_cost_their_turns() -> None:
    """FLOPs and caches for each turn of the fast stage and for each cycle of the slow one; parameters once."""
    fast, slow = (plan(around(slow=SLOW, times=2, turns=3)).stages[1].children[index][1] for index in (0, 1))
    found, without = plan(around(slow=SLOW, times=2, turns=3)), plan([around()[0], around()[2]])
    assert found.parameters - without.parameters == fast.parameters + slow.parameters
    assert found.flops_per_token - without.flops_per_token == pytest.approx(6 * fast.flops + 2 * slow.flops)
    assert found.cache_per_token == 6 * sum(block.cost.cache_per_token for block in fast.blocks())


@pytest.mark.parametrize(
    ("change", "severity", "message"),
    [
        ({"of": {**FAST, "from": "prelude"}}, "error", "reads what these hand it"),
        ({"slow": {**SLOW, "from": "prelude"}}, "error", "reads what these hand it"),
        ({"slow": FAST}, "error", "called 'fast' too"),
        ({"backprop": [1, 2, 3]}, "error", "3 numbers for 2 cycles"),
        ({"backprop": 3}, "warning", "all 3 turns anyway"),
        ({"backprop": 1, "start": "learned"}, "warning", "stays as it was drawn"),
    ],
)
def test_what_cannot_be_or_does_nothing(change: dict[str, Any], severity: str, message: str) -> None:
    """EVO352: stages that read others, two of one name, numbers that fit no cycles, and what changes nothing."""
    body = {"width": 16, "context": 16, "stages": around(**change)}
    found = [fault for fault in check(from_data({"evo": 1, "organism": body})) if fault.code == "EVO352"]
    assert [fault.severity for fault in found] == [severity]
    assert message in found[0].message


def test_cycles_hold_loops() -> None:
    """They nest, and hold loops."""
    inner = {"name": "inner", "kind": "cycles", "of": FAST, "times": 1, "turns": 1}
    document(around(of={"name": "turn", "kind": "loop", "of": inner}, slow=SLOW))
