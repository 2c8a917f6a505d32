"""What both halves of a gated feed-forward pass, against their equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch.nn.functional as F
from test_scan_oracles import Weights, compare, ours
from torch import Tensor


def whole(w: Weights, name: str) -> Tensor:
    """A map as one matrix, (out, in)."""
    inner = w.get(f"{name}_inner")
    return w[name] if inner is None else w[name] @ inner


@pytest.mark.parametrize(
    "form", [{"kind": "gated"}, {"kind": "structured", "form": "low_rank", "rank": 3, "gate": True}]
)
def test_both_halves_may_be_active(form: dict[str, Any]):
    """max(0, x W_gate) max(0, x W_up) W_down (dReLU, Song et al. 2406.05955): values and gradients."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        gate, up, down = (whole(w, name) for name in ("gate", "up", "down"))
        return ((x @ gate.T).clamp(min=0) * (x @ up.T).clamp(min=0)) @ down.T

    compare(ours(0.4, **form, hidden=24, act="relu", up_act="relu"), theirs)


def test_what_is_gated_passes_before_an_activation_with_settings():
    """An activation that bounds what is gated has it behind its own."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        gate, up = (F.linear(x, w[name], w[f"{name}_bias"]) for name in ("gate", "up"))
        gate, up = gate.clamp(max=7.0), up.tanh().clamp(-7.0, 7.0)
        return F.linear(gate * (1.702 * gate).sigmoid() * (up + 1.0), w["down"], w["down_bias"])

    compare(ours(0.4, kind="gated", hidden=24, bias=True, act={"kind": "clipped"}, up_act="tanh"), theirs)
