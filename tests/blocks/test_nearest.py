"""Attention to nearest earlier tokens beside a segment, against the equations, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from block_variants import CONTEXT, stage
from papers import ATTENTION, by_heads_of, compare
from torch import Tensor

from evo.blocks.select.spec import NearestSelect
from evo.compiler.check import check
from evo.dsl.document import from_data

HEADS, GROUPS, SIZE, TOP = 4, 2, 5, 3
MIXER = {**ATTENTION, "heads": HEADS, "kv_heads": GROUPS}


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_a_gate_mixes_a_segment_and_its_nearest_tokens(learns: bool, unit: bool):
    """V_m g + V_c (1 - g), g = sigmoid(b) of each head; V_m from the best top keys of earlier segments, to which no
    gradient flows; queries and keys normed or not (Memorizing Transformers, 3.1 and 3.2)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (by_heads_of(x @ w[name].T, HEADS if name == "q" else GROUPS) for name in "qkv")
        if unit:
            q, k = (part * torch.rsqrt(part.square().mean(-1, keepdim=True) + 1e-6) for part in (q, k))
            q, k = q * w["q_norm.gain"], k * w["k_norm.gain"]
        k, v = (part.repeat_interleave(HEADS // GROUPS, dim=1) for part in (k, v))
        rows = []
        for t in range(x.shape[1]):
            begin = t // SIZE * SIZE
            logits = torch.einsum("bhk,bhsk->bhs", q[:, :, t], k[:, :, begin : t + 1]) / q.shape[-1] ** 0.5
            local = torch.einsum("bhs,bhsv->bhv", logits.softmax(-1), v[:, :, begin : t + 1])
            if not begin:
                rows.append(local)
                continue
            keys, values = k[:, :, :begin], v[:, :, :begin]
            if not learns:
                keys, values = keys.detach(), values.detach()
            scores = torch.einsum("bhk,bhsk->bhs", q[:, :, t], keys) / q.shape[-1] ** 0.5
            best = scores.topk(min(TOP, begin), dim=-1)
            met = values.gather(2, best.indices[..., None].expand(-1, -1, -1, values.shape[-1]))
            memory = torch.einsum("bhs,bhsv->bhv", best.values.softmax(-1), met)
            g = w["select.gate"].sigmoid()[:, None]
            rows.append(memory * g + local * (1 - g))
        return torch.stack(rows, 1).flatten(-2) @ w["o"].T

    select = {"kind": "nearest", "size": SIZE, "top": TOP, "learns": learns}
    compare({**MIXER, "select": select, **({"qk_norm": "rms"} if unit else {})}, theirs, moved=0.3)


@pytest.mark.parametrize(("size", "top"), [(5, 3), (1, 40), (4, 4), (23, 2)])
def test_pairs_are_those_of_segments_and_of_nearest_tokens(size: int, top: int):
    """Each query meets its segment so far, and no more than so many before it."""
    counted = sum(t % size + 1 + min(top, t // size * size) for t in range(CONTEXT))
    assert NearestSelect(size=size, top=top).pairs(CONTEXT) == counted


@pytest.mark.parametrize(
    "mixer",
    [
        {**MIXER, "select": {"kind": "nearest", "size": 16, "top": 3}},
        {**MIXER, "select": {"kind": "nearest", "size": 4, "top": 3}, "stencil": {"kind": "window", "size": 5}},
        {"kind": "latent", "heads": 2, "kv_rank": 4, "select": {"kind": "nearest", "size": 4, "top": 3}},
    ],
)
def test_what_cannot_choose(mixer: dict[str, Any]) -> None:
    """A segment as long as the context, a stencil that hides what may be chosen, and keys that are not kept by head."""
    found = check(from_data({"evo": 1, "organism": {"width": 16, "context": 16, "stages": [stage("s", mixer)]}}))
    assert {diagnostic.code for diagnostic in found if diagnostic.severity == "error"} == {"EVO360"}
