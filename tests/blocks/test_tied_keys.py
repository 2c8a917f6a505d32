"""Keys that are values but for what all heads share, against the authors' code written plainly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, plan, stage
from papers import ATTENTION, compare
from torch import Tensor

from evo.compiler.check import problems
from evo.dsl.document import from_data

HEADS, GROUPS, SHARED, DIM = 4, 2, 4, 6
TIED = {
    **ATTENTION,
    "heads": HEADS,
    "kv_heads": GROUPS,
    "head_dim": DIM,
    "values": "tied",
    "shared_dims": SHARED,
    "position": {"kind": "rope", "dims": SHARED, "at": "last"},
}


def rotated(x_BTHR: Tensor) -> Tensor:
    """x cos + rotate_half(x) sin, as Llama has it."""
    frequencies = 10000.0 ** (-torch.arange(0, SHARED, 2, dtype=torch.float64) / SHARED)
    angles = torch.outer(torch.arange(x_BTHR.shape[1], dtype=torch.float64), frequencies).repeat(1, 2)[:, None]
    one, two = x_BTHR.chunk(2, -1)
    return x_BTHR * angles.cos() + torch.cat((-two, one), -1) * angles.sin()


def test_keys_are_tied_as_by_the_authors():
    """LlamaFlashGTA (2505.21487): queries split into a part that meets tied states and one that turns, whose keys all
    heads share; values are the whole tied states."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        query, query_rope = (x @ w["q"].T).unflatten(-1, (HEADS, DIM)).split((DIM - SHARED, SHARED), -1)
        kv_states = (x @ w["k"].T).unflatten(-1, (GROUPS, DIM)).repeat_interleave(HEADS // GROUPS, dim=2)
        key_rope = rotated((x @ w["k_shared"].T)[:, :, None]).expand(-1, -1, HEADS, -1)
        queries = torch.cat((query, rotated(query_rope)), -1)
        keys = torch.cat((kv_states[..., : DIM - SHARED], key_rope), -1)
        heads = (part.transpose(1, 2) for part in (queries, keys, kv_states))
        y = F.scaled_dot_product_attention(*heads, is_causal=True)
        return y.transpose(1, 2).flatten(-2) @ w["o"].T

    compare(TIED, theirs, moved=0.2)


def test_a_cache_keeps_each_tied_state_once():
    """G K numbers a token, and the shared channels."""
    block = block_of(plan([stage("s", TIED)]), "mixer")
    assert block.cost.cache_vectors == (SHARED, DIM, DIM)
    assert block.cost.cache_per_token == SHARED + GROUPS * DIM


@pytest.mark.parametrize(
    "change",
    [
        {"position": {"kind": "rope"}},
        {"position": {"kind": "rope", "dims": 4}},
        {"shared_dims": 6},
        {"qk_norm": "rms"},
        {"kv_to": "both"},
        {"factors": {}},
        {"position": {"kind": "polar"}},
    ],
)
def test_what_cannot_be(change: dict[str, Any]) -> None:
    """Positions that turn what is a value as well, and what needs keys by head."""
    organism = {"width": 16, "context": 16, "stages": [stage("s", {**TIED, **change})]}
    found = problems(from_data({"evo": 1, "organism": organism}).document)
    assert "EVO308" in {fault.code for fault in found if fault.severity == "error"}
