"""Convolutions whose taps tokens make, against the paper's equations: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT
from papers import compare
from torch import Tensor

DYNAMIC = {"kind": "dynamic_convolution", "heads": 2, "inner": 24, "size": 3}


def values(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """GLU(x): the projection by halves, one the gate of the other."""
    return F.glu(x @ torch.cat((w["v"], w["gate"])).T, dim=-1)


def by_matrix(w: Mapping[str, Tensor], v: Tensor, taps: Tensor) -> Tensor:
    """fairseq's way: the taps of all tokens as a band matrix (B, H, T, T), times the values by head."""
    B, T, H, W = taps.shape
    band = v.new_zeros(B, H, T, T)
    for t in range(T):
        for i in range(W):
            if t - (W - 1 - i) >= 0:
                band[:, :, t, t - (W - 1 - i)] = taps[:, t, :, i]
    heads = v.unflatten(-1, (H, -1)).transpose(1, 2)
    return (band @ heads).transpose(1, 2).flatten(-2) @ w["o"].T


@pytest.mark.parametrize("weigh", ["softmax", "plain"])
@pytest.mark.parametrize("rank", [None, 5])
def test_taps_of_the_token(rank: int | None, weigh: str):
    """DynamicConv(X, i, c) = DepthwiseConv(X, softmax(W X_i)_h, i, c) (eq. 4); with a generator of two layers."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        inner = x if rank is None else F.silu(x @ w["make_down"].T)
        taps = (inner @ w["make"].T).unflatten(-1, (2, 3))
        return by_matrix(w, values(w, x), taps.softmax(-1) if weigh == "softmax" else taps)

    settings: dict[str, Any] = {} if rank is None else {"rank": rank}
    compare({**DYNAMIC, "weigh": weigh, **settings}, theirs, moved=0.3)


def test_taps_of_all_tokens_are_a_lightweight_convolution():
    """LightConv: softmaxed taps that H parts of channels share (eqs. 2 and 3), by torch's conv1d."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        taps = w["taps"].softmax(-1).repeat_interleave(12, dim=0)[:, None]
        v = F.pad((x @ w["v"].T).transpose(1, 2), (2, 0))
        return F.conv1d(v, taps, groups=24).transpose(1, 2) @ w["o"].T

    assert CONTEXT > 3
    compare({**DYNAMIC, "by": "learned", "gate": False}, theirs, moved=0.3)
