"""PaTH attention against fla's naive function and against products of matrices written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, plan
from test_recurrence_oracles import Weights, compare, convolve, large
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.kernels.attention import reflected
from oracles import naive

pytestmark = pytest.mark.filterwarnings("ignore")
HEADS, KV_HEADS, DIM, WIDTH, TIME = 4, 2, 6, 24, 50


def our(**settings: Any) -> Block:
    """The block in this language, float32, with large weights."""
    data = {"kind": "path_attention", "heads": HEADS, "kv_heads": KV_HEADS, "head_dim": DIM, "rank": 5, **settings}
    whole = plan([{"name": "s", "layers": {"sublayers": [{"block": data}]}}], width=WIDTH, context=TIME)
    return large(built(block_of(whole, "0")).float(), 0.5)


def directions(x: Tensor, w: Weights) -> Tensor:
    """The unit vectors of each token and key head."""
    found = convolve(x @ w["w_down"].T @ w["w_up"].T, w["w_taps"]).unflatten(-1, (KV_HEADS, DIM))
    return found / (found.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()


@pytest.mark.parametrize("forget", [False, True])
def test_path_attention(forget: bool):
    """PaTH and PaTH-FoX. (fla's function multiplies gates by the scale of scores; the paper does not.)"""
    attend, scale = naive("fla.ops.path_attn.naive:naive_path_attn"), DIM**-0.5

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = ((x @ w[n].T).unflatten(-1, (-1, DIM)) for n in "qkv")
        beta = 2 * (x @ w["beta"].T + w["beta_bias"]).sigmoid()
        gates = x.new_zeros(*x.shape[:2], HEADS)
        if forget:
            gates = F.logsigmoid(x @ w["forget_gate"].T + w["forget_gate_bias"]) / scale
        return attend(q, k, v, directions(x, w), beta, gates, scale).flatten(2) @ w["o"].T

    compare(our(forget=forget), theirs)


def test_chunks_are_products_of_matrices(monkeypatch: pytest.MonkeyPatch):
    """Over several chunks, scores pass H_{s+1} ... H_t, each matrix made and multiplied."""
    monkeypatch.setattr(reflected, "CHUNK", 7)
    block = our(kv_heads=HEADS, conv=0, qk_norm={"kind": "l2"}).double()
    x = torch.randn(2, 23, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v, u = ((x @ m.T).unflatten(-1, (HEADS, DIM)) for m in (w["q"], w["k"], w["v"], w["w_up"] @ w["w_down"]))
        q, k, u = (y / (y.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt() for y in (q, k, u))
        beta = 2 * (x @ w["beta"].T + w["beta_bias"]).sigmoid()
        H = torch.eye(DIM, dtype=x.dtype) - beta[..., None, None] * u[..., :, None] * u[..., None, :]
        rows = []
        for t in range(x.shape[1]):
            passed, scores = q[:, t], []
            for s in range(t, -1, -1):
                scores.append((passed * k[:, s]).sum(-1))
                passed = torch.einsum("bhij,bhj->bhi", H[:, s], passed)
            weights = (torch.stack(scores[::-1], -1) * DIM**-0.5).softmax(-1)
            rows.append(torch.einsum("bhs,bshv->bhv", weights, v[:, : t + 1]).flatten(1))
        return torch.stack(rows, 1) @ w["o"].T

    weights = {name: p.detach().clone().requires_grad_() for name, p in block.named_parameters()}
    mine, wanted = block(x, Flow()), theirs(x, weights)
    torch.testing.assert_close(mine, wanted, rtol=1e-8, atol=1e-8)
    got = torch.autograd.grad(mine.sin().sum(), list(block.parameters()))
    expected = torch.autograd.grad(wanted.sin().sum(), list(weights.values()))
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)
