"""Attention beside a compressive memory, against the paper's equations: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from papers import compare
from torch import Tensor


def sigma(y: torch.Tensor) -> torch.Tensor:
    """What queries and keys of the memory are (section 2.1)."""
    return F.elu(y) + 1


def turned(x: Tensor) -> Tensor:
    """Pairs of halves of (B, H, T, K) turned by position (RoFormer)."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] * 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    one, two = x.split(half, dim=-1)
    return torch.cat((one * angles.cos() - two * angles.sin(), two * angles.cos() + one * angles.sin()), dim=-1)


@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("update", ["outer", "delta"])
@pytest.mark.parametrize("size", [5, 8])
def test_memory_and_segment_are_those_of_infini_attention(size: int, update: str, turns: bool, kv_heads: int):
    """A_mem = sigma(Q) M / (sigma(Q) z), M and z behind the segments before; A = sigmoid(beta) A_mem + (1 -
    sigmoid(beta)) A_dot (2404.07143, eqs. 3 to 6), head by head and segment by segment."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        dim = w["q"].shape[0] // 4
        q, k, v = ((x @ w[name].T).unflatten(-1, (-1, dim)).transpose(1, 2) for name in "qkv")
        k, v = (y.repeat_interleave(4 // kv_heads, dim=1) for y in (k, v))
        at_q, at_k = (turned(q), turned(k)) if turns else (q, k)
        memory, norm = x.new_zeros(len(x), 4, dim, dim), x.new_zeros(len(x), 4, dim, 1)
        gate, found = w["blend"].sigmoid()[:, None, None], []
        for start in range(0, x.shape[1], size):
            part = slice(start, start + size)
            local = F.scaled_dot_product_attention(at_q[:, :, part], at_k[:, :, part], v[:, :, part], is_causal=True)
            recalled = sigma(q[:, :, part]) @ memory / (sigma(q[:, :, part]) @ norm + 1e-6)
            found.append(gate * recalled + (1 - gate) * local)
            f, new = sigma(k[:, :, part]), v[:, :, part]
            if update == "delta":
                new = new - f @ memory / (f @ norm + 1e-6)
            memory, norm = memory + f.mT @ new, norm + f.sum(2)[..., None]
        return torch.cat(found, dim=2).transpose(1, 2).flatten(-2) @ w["o"].T

    mixer = {"kind": "compressive", "heads": 4, "kv_heads": kv_heads, "segment": size, "update": update}
    compare({**mixer, **({"position": {"kind": "rope"}} if turns else {})}, theirs, moved=0.4)
