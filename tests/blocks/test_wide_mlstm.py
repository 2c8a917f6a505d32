"""The block of xLSTM's first paper, token by token: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from papers import HEADS, compare, convolved
from torch import Tensor

from evo.compiler.check import problems
from evo.dsl.document import from_data

WIDE: dict[str, Any] = {"kind": "mlstm", "heads": HEADS, "cap": None, "eps": 1e-5, "wide": {"inner": 24, "block": 3}}


def blocked(x: Tensor, blocks: Tensor) -> Tensor:
    """A block-diagonal matrix (LinearHeadwiseExpand of the authors' code), written out."""
    return x @ torch.block_diag(*blocks).T


def read(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """C = f C + i k v^T, n = f n + i k, h = C q / max(|n q|, 1), stabilised (equations 19 to 27), of a row's head."""
    memory, norm, largest, rows = q.new_zeros(len(q[0]), len(v[0])), q.new_zeros(len(q[0])), q.new_zeros(()), []
    for t in range(len(q)):
        kept = F.logsigmoid(f[t]) + largest
        largest = torch.maximum(kept, i[t]).detach()
        memory = (kept - largest).exp() * memory + (i[t] - largest).exp() * torch.outer(k[t], v[t])
        norm = (kept - largest).exp() * norm + (i[t] - largest).exp() * k[t]
        asked = q[t] / len(q[t]) ** 0.5
        rows.append(asked @ memory / (torch.maximum((asked @ norm).abs(), (-largest).exp()) + 1e-6))
    return torch.stack(rows)


def test_xlstms_first_block():
    """Figure 11: up and gate, a convolution before q and k, block-diagonal maps, gates of [q, k, v], a norm by head,
    the learned skip of what was convolved, silu of the gate (Beck et al. 2405.04517)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        u, z = x @ w["up"].T, x @ w["gate"].T
        c = F.silu(convolved(u, w["taps"]) + w["taps_bias"])
        q, k, v = blocked(c, w["q"]), blocked(c, w["k"]), blocked(u, w["v"])
        qkv = torch.cat((q, k, v), -1)
        i, f = (qkv @ w[f"{name}_gate"].T + w[f"{name}_gate_bias"] for name in ("input", "forget"))
        parts = [y.unflatten(-1, (HEADS, -1)) for y in (q, k, v)]
        heads = [
            torch.stack([read(*(y[row, :, h] for y in parts), i[row, :, h], f[row, :, h]) for row in range(len(x))])
            for h in range(HEADS)
        ]
        normed = torch.cat([F.layer_norm(y, y.shape[-1:], eps=1e-5) for y in heads], -1) * w["norm_gain"]
        return ((normed + w["skip"] * c) * F.silu(z)) @ w["o"].T

    compare(WIDE, theirs, moved=0.3)


@pytest.mark.parametrize(
    ("wide", "field"), [({"inner": 25}, "inner"), ({"inner": 2}, "inner"), ({"inner": 24, "block": 5}, "block")]
)
def test_what_cannot_be(wide: dict[str, int], field: str):
    """EVO300: heads of a part of a channel, or of one, and blocks that do not divide the channels."""
    body = {"width": 16, "stages": [{"name": "s", "mix": {**WIDE, "wide": wide}}]}
    found = [fault for fault in problems(from_data({"evo": 1, "organism": body}).document) if fault.code == "EVO300"]
    assert field in [fault.path[-1] for fault in found]
