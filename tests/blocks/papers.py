"""What tests of published equations share: a mixer against a function of its weights, and pieces of attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import Whole, block_of, built, inputs, plan, stage
from torch import Tensor

HEADS = 2
ATTENTION = {"kind": "attention", "heads": HEADS, "position": {"kind": "none"}}
Theirs = Callable[[Mapping[str, Tensor], Tensor], Tensor]


def compare(mixer: dict[str, object], theirs: Theirs, moved: float = 0.0) -> None:
    """A mixer's values and gradients against a function of its weights and x. moved: how far weights are from where
    they start, on average."""
    block = Whole(built(block_of(plan([stage("s", mixer, ffn={"kind": "none"})]), "mixer")))
    weights, x = dict(block.named_parameters()), inputs()
    with torch.no_grad():
        for seed, weight in enumerate(weights.values()):
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed), dtype=weight.dtype)
            weight.add_(moved * noise)
    ours, expected = block(x), theirs(weights, x)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    cotangent = torch.randn(ours.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found, wanted = (torch.autograd.grad((y * cotangent).sum(), list(weights.values())) for y in (ours, expected))
    for name, one, other in zip(weights, found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=name)


def convolved(x_BTC: Tensor, taps_CW: Tensor) -> Tensor:
    """A causal depthwise convolution, by torch's conv1d."""
    padded = F.pad(x_BTC.transpose(1, 2), (taps_CW.shape[1] - 1, 0))
    return F.conv1d(padded, taps_CW[:, None], groups=taps_CW.shape[0]).transpose(1, 2)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of heads that lie side by side in (B, T, C)."""
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)


def by_heads(x: Tensor) -> Tensor:
    """(B, T, H C) -> (B, H, T, C)."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def by_heads_of(x: Tensor, heads: int) -> Tensor:
    """The same of so many heads."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def scores(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """q k^T / sqrt(K) by head, (B, H, T, S)."""
    q, k = (by_heads(x @ w[name].T) for name in "qk")
    return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5


def read_out(weights_BHTS: Tensor, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The weighed values, projected."""
    return (weights_BHTS @ by_heads(x @ w["v"].T)).transpose(1, 2).flatten(-2) @ w["o"].T


def attended(w: Mapping[str, Tensor], x: Tensor, mixes: Mapping[str, Tensor] | None = None, **settings: Any) -> Tensor:
    """The same with what x-transformers makes of queries, keys and values. settings: those of its `Attend`, whose
    softmax is in float32 but for normed queries."""
    attend = pytest.importorskip("x_transformers.attend", reason="the oracle x-transformers is not installed").Attend
    run = attend(causal=True, heads=HEADS, qk_norm=True, **settings).double()
    held = {f"{name}.weight": mix[:, :, None, None] for name, mix in (mixes or {}).items()}
    q, k, v = (by_heads(x @ w[name].T) for name in "qkv")
    return torch.func.functional_call(run, held, (q, k, v))[0].transpose(1, 2).flatten(-2) @ w["o"].T


def unit(x: Tensor) -> Tensor:
    """x / sqrt(|x|² + 1e-6), as flash-linear-attention has it."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def by_heads_of_each(x: Tensor) -> Tensor:
    """(B, T, 2 H C) -> (B, T, 2, H, C): those of the first write, then of the second."""
    return x.unflatten(-1, (2, HEADS, -1))
