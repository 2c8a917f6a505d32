"""Gated attention units against the papers' equations: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT
from papers import compare
from torch import Tensor

UNIT: dict[str, Any] = {"kind": "gated_attention", "inner": 24, "dim": 6}


def vectors(w: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys by per-dimension scalars and offsets of one vector."""
    z = F.silu(x @ w["z"].T)
    return z * w["q_gain"] + w["q_shift"], z * w["k_gain"] + w.get("k_shift", 0.0)


def squared(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """relu²(Q K^T / n), n the length of the context, of earlier tokens (2202.10447, eq. 5 and its figure 2)."""
    q, k = vectors(w, x)
    return F.relu(q @ k.mT / CONTEXT).square().tril()


def softmaxed(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(s)) of earlier tokens."""
    q, k = vectors(w, x)
    future = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
    return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(future, -torch.inf).softmax(-1)


def averaged(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The damped moving averages of each channel, token by token (2209.10655, eq. 2 and section 3.1)."""
    take, damp = w["average.take"].sigmoid(), w["average.damp"].sigmoid()
    h, rows = x.new_zeros(len(x), *take.shape), []
    for x_BD in x.unbind(1):
        h = take * (w["average.spread"] * x_BD[..., None]) + (1 - take * damp) * h
        rows.append((w["average.gather"] * h).sum(-1) / take.shape[1] ** 0.5 + w["average.skip"] * x_BD)
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize(("settings", "weights"), [({"scale": 1.0}, squared), ({"weigh": "softmax"}, softmaxed)])
def test_a_unit_is_that_of_flash(settings: dict[str, Any], weights: Any):
    """O = (U * A V) W_o (2202.10447, eqs. 3 to 5)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        u, v = F.silu(x @ w["gate"].T), F.silu(x @ w["v"].T)
        return (u * (weights(w, x) @ v)) @ w["o"].T

    compare({**UNIT, **settings}, theirs, moved=0.4)


def turned(x: Tensor) -> Tensor:
    """Pairs of halves turned by position (RoFormer)."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[1])[:, None] * 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    one, two = x.split(half, dim=-1)
    return torch.cat((one * angles.cos() - two * angles.sin(), two * angles.cos() + one * angles.sin()), dim=-1)


def test_queries_and_keys_turn():
    """RoPE on both, behind their offsets; with a softmax the offset of keys counts then, and only then."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (turned(y) for y in vectors(w, x))
        assert "k_shift" in w
        future = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(future, -torch.inf).softmax(-1)
        return (F.silu(x @ w["gate"].T) * (weights @ F.silu(x @ w["v"].T))) @ w["o"].T

    compare({**UNIT, "weigh": "softmax", "position": {"kind": "rope"}}, theirs, moved=0.4)


def test_averages_and_steps_are_megas():
    """Q, K, gates of the averages, V of x; y = phi h + (1 - phi) x (2209.10655, eqs. 8 to 15), less x."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        read = averaged(w, x)
        v, gamma = F.silu(x @ w["v"].T), F.silu(read @ w["gate"].T)
        o = softmaxed(w, read) @ v
        h = F.silu(read @ w["candidate"].T + (gamma * o) @ w["o"].T + w["candidate_bias"])
        phi = (read @ w["step"].T + w["step_bias"]).sigmoid()
        return phi * h + (1 - phi) * x - x

    compare({**UNIT, "weigh": "softmax", "averages": 3, "steps": True}, theirs, moved=0.3)
