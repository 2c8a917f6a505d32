"""Structured feed-forwards against whole matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, plan, stage
from test_scan_oracles import Weights, compare, ours
from torch import Tensor

HIDDEN = 24


def interleaved(count: int, blocks: int) -> Tensor:
    """The permutation that reads channels (r, blocks) as (blocks, r)."""
    return torch.eye(count, dtype=torch.float64)[torch.arange(count).view(-1, blocks).T.flatten()]


def matrix(w: Weights, name: str, form: str) -> Tensor:
    """A map as one matrix, (out, in)."""
    outer = w[name]
    if form == "blocks":
        return torch.block_diag(*outer)
    inner = w[f"{name}_inner"]
    if form == "low_rank":
        return outer @ inner
    if form == "kronecker":
        return torch.kron(inner, outer)
    blocks, out, met = outer.shape  # Monarch with its permutations written as matrices (2204.00595, eq. 1)
    back = interleaved(blocks * out, out)
    return back @ torch.block_diag(*outer) @ interleaved(blocks * met, blocks) @ torch.block_diag(*inner)


@pytest.mark.parametrize("form", ["blocks", "monarch", "kronecker", "low_rank"])
@pytest.mark.parametrize("gate", [False, True])
def test_maps_are_matrices(form: str, gate: bool):
    """Values and the gradients of every factor."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        up, down = (matrix(w, name, form) for name in ("up", "down"))
        hidden = F.linear(x, up, w["up_bias"])
        hidden = F.silu(F.linear(x, matrix(w, "gate", form), w["gate_bias"])) * hidden if gate else F.silu(hidden)
        return F.linear(hidden, down, w["down_bias"])

    size = {"rank": 3} if form == "low_rank" else {"blocks": 4}
    fields: dict[str, Any] = {"form": form, "gate": gate, "hidden": HIDDEN, "bias": True, "act": "silu", **size}
    compare(ours(0.4, kind="structured", **fields), theirs)


@pytest.mark.parametrize("form", ["blocks", "monarch", "kronecker", "low_rank"])
def test_it_starts_as_large_as_a_plain_one(form: str):
    """The maps have about the variance of a dense feed-forward's."""
    size = {"rank": 64} if form == "low_rank" else {}
    data: dict[str, Any] = {"kind": "structured", "form": form, "hidden": 512, "act": "identity", **size}
    generator = torch.Generator().manual_seed(0)
    planned = block_of(plan([stage("s", {"kind": "convolution"}, ffn=data)]), "ffn")
    drawn = {
        weight.name: weight.init.a * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        for weight in planned.weights
    }
    up = matrix(drawn, "up", form)
    assert up.shape == (512, 16)
    assert 0.5 < float(up.square().sum(1).mean()) < 2.0
