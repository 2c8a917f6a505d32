"""Memories that learn by other losses and through a norm: against autograd, and against fla's TTT."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import Whole
from test_scan_oracles import TIME, WIDTH, Weights, compare, ours
from torch import Tensor

from evo.blocks.memory.module import MemoryState
from evo.compiler.organism import OrganismState
from oracles import naive

pytestmark = pytest.mark.filterwarnings("ignore")
HEADS, DIM, CHUNK, RATE = 2, 4, 5, 0.3
MEMORY = {"kind": "memory", "heads": HEADS, "dim": DIM, "chunk": CHUNK, "rate": RATE, "gate": False}


def huber(e: Tensor) -> Tensor:
    """e² up to 1 and 2 |e| - 1 beyond."""
    return 2 * F.huber_loss(e, torch.zeros_like(e), reduction="none", delta=1.0)


LOSSES = {"square": torch.square, "huber": huber, "cube": lambda e: e.abs() ** 3}


def met(layers: list[Tensor], data: dict[str, Any]) -> list[Tensor]:
    """W = A / ||A||_q^(q - 2), of which the loss and its gradient are (Moneta; Miras, 2504.13173)."""
    if (q := data.get("power")) is None:
        return list(layers)
    return [layer / layer.abs().pow(q).sum((-2, -1), keepdim=True).pow(1 / q).pow(q - 2) for layer in layers]


def read(x: Tensor, layers: list[Tensor], w: Weights, data: dict[str, Any]) -> Tensor:
    """What a memory of one layer list gives for (B, H, K)."""
    y = x
    for index, layer in enumerate(layers):
        y = F.gelu(y) if index else y
        y = torch.cat((y, torch.ones_like(y[..., :1])), -1) if data.get("bias") else y
        y = (layer @ y[..., None])[..., 0]
    if not data.get("norm"):
        return y
    normed = torch.stack([F.layer_norm(y[:, h], (DIM,), w["norm_gain"][h], w["norm_bias"][h], 1e-6) for h in (0, 1)], 1)
    return x + normed


CASES: dict[str, dict[str, Any]] = {
    "TTT-Linear": {"norm": True, "bias": True, "forget": False, "momentum": False},
    "TTT-MLP": {"norm": True, "bias": True, "forget": False, "momentum": False, "depth": 2},
    "cubes": {"loss": "cube", "momentum": False},
    "Moneta": {"loss": "cube", "momentum": False, "power": 4.0, "depth": 2},
    "norms of all of it": {"loss": "huber", "norm": True, "bias": True, "depth": 2, "power": 3.0},
    "Yaad": {"loss": "huber", "momentum": False, "depth": 2},
    "all of it": {"loss": "huber", "norm": True, "bias": True, "depth": 2},
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES)
def test_steps_are_gradients(data: dict[str, Any]):
    """Each token's step is autograd's gradient of the loss at the weights of its chunk, one token after another."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = (F.silu(x @ w[n].T).unflatten(-1, (HEADS, DIM)) for n in "qkv")
        q, k = (y / (y.square().sum(-1, keepdim=True) + 1e-6).sqrt() for y in (q, k))
        step, gone, kept = (
            (x @ w[n].T + w[f"{n}_bias"]).sigmoid() if n in w else x.new_zeros(*x.shape[:2], HEADS)
            for n in ("step", "forget", "keep")
        )
        layers = [w[n].expand(len(x), *w[n].shape) for n in ("memory_0", "memory_1") if n in w]
        momenta, rows = [torch.zeros_like(layer) for layer in layers], []
        for start, end in pairwise([*range(0, TIME, CHUNK), TIME]):
            first = met(layers, data)
            for t in range(start, end):
                loss = LOSSES[data.get("loss", "square")](read(k[:, t], first, w, data) - v[:, t]).mean(-1).sum()
                slopes = torch.autograd.grad(loss, first, create_graph=True)
                rate = RATE * step[:, t, :, None, None]
                momenta = [kept[:, t, :, None, None] * m - rate * s for m, s in zip(momenta, slopes, strict=True)]
                layers = [(1 - gone[:, t, :, None, None]) * a + m for a, m in zip(layers, momenta, strict=True)]
                rows.append(read(q[:, t], met(layers, data), w, data).flatten(1))
        return torch.stack(rows, 1) @ w["o"].T

    compare(ours(0.4, **MEMORY, **data), theirs)


def test_ttt_linear_of_fla():
    """With one step for all tokens, a memory learns what fla's TTT-Linear does. (Their output adds what the memory
    gives and not the query, unlike the paper's code.)"""
    ttt = naive("fla.ops.ttt.naive:chunk_ttt_linear_ref")
    data = {**MEMORY, **CASES["TTT-Linear"], "chunk": 7, "qk_norm": False, "act": "identity"}
    block = ours(0.4, **data)
    w = dict(block.named_parameters())
    with torch.no_grad():
        w["step"].zero_()
        x = torch.randn(2, TIME, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        _, state = Whole(block).extend(x, OrganismState())
        q, k, v = ((x @ w[n].T).unflatten(-1, (HEADS, DIM)).float() for n in "qkv")
        eta = (2 * RATE / DIM * w["step_bias"].sigmoid()).float().expand(2, TIME, HEADS)[..., None].contiguous()
        first = w["memory_0"].expand(2, -1, -1, -1).float()
        _, h, bias = ttt(
            q, k, v, w["norm_gain"].float(), w["norm_bias"].float(), eta, 1.0, 1e-6, 7,
            first[..., :DIM].mT.clone(), first[..., DIM:].mT.clone(), True,
        )  # fmt: skip
    found = next(inner.weights[0] for inner in state.blocks.values() if isinstance(inner, MemoryState))
    torch.testing.assert_close(found.float(), torch.cat((h.mT, bias.mT), -1), rtol=1e-4, atol=1e-5)
