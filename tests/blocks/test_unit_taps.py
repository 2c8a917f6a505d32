"""Short convolutions of hidden units, against Canon layers written out: values and gradients of every weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, inputs, plan
from papers import convolved

from evo.blocks.flow import Flow


def feedforward(**data: Any) -> Any:
    """A feed-forward with large weights."""
    block = built(block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": data}]}}]), "0"))
    with torch.no_grad():
        for seed, weight in enumerate(block.parameters()):
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.dtype))
    return block


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("kind", ["dense", "gated"])
def test_hidden_units_are_convolved_before_they_are_activated(kind: str, residual: bool):
    """Canon-D: h + conv(h) of up, and of gate, each channel by itself (Allen-Zhu 2025, section 3)."""
    block, x = feedforward(kind=kind, hidden=24, act="silu", taps={"size": 3, "residual": residual}), inputs()
    w = dict(block.named_parameters())

    def unit(name: str) -> torch.Tensor:
        h = x @ w[name].T
        return convolved(h, w[f"{name}_taps"]) + (h if residual else 0.0)

    hidden = F.silu(unit("up")) if kind == "dense" else F.silu(unit("gate")) * unit("up")
    ours, theirs = block(x, Flow()), hidden @ w["down"].T
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    cotangent = inputs(seed=4)
    got, wanted = (torch.autograd.grad((y * cotangent).sum(), list(w.values())) for y in (ours, theirs))
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["dense", "gated"])
def test_hidden_units_have_gains(kind: str):
    """silu(v s_v) u s_u (nGPT, 2410.01131, equations 20 and 21); s_v starts at the number, s_u at 1."""
    block, x = feedforward(kind=kind, hidden=24, act="silu", gain=4.0), inputs()
    w = dict(block.named_parameters())
    first, *second = [
        x @ w[name].T * w[f"{name}_gain.gain"] for name in (("up",) if kind == "dense" else ("gate", "up"))
    ]
    hidden = F.silu(first) * (second[0] if second else 1.0)
    ours, theirs = block(x, Flow()), hidden @ w["down"].T
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    cotangent = inputs(seed=4)
    got, wanted = (torch.autograd.grad((y * cotangent).sum(), list(w.values())) for y in (ours, theirs))
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-9)


def test_experts_have_no_gains():
    """EVO307: rows of all experts meet in one product, which no gains of each follow."""
    data = {"kind": "experts", "of": {"kind": "gated", "gain": 2.0}}
    with pytest.raises(AssertionError, match="EVO307"):
        plan([{"name": "s", "layers": {"sublayers": [{"block": data}]}}])


def test_experts_keep_no_past():
    """EVO307: what a token meets is not what the one before it met."""
    data = {"kind": "experts", "of": {"kind": "gated", "taps": {}}}
    with pytest.raises(AssertionError, match="EVO307"):
        plan([{"name": "s", "layers": {"sublayers": [{"block": data}]}}])
