"""Heads that tokens weigh and choose among, against the equations and the authors' code, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import stage
from papers import ATTENTION, compare
from torch import Tensor

from evo.compiler.check import problems
from evo.dsl.document import from_data

HEADS = 4
MIXER = {**ATTENTION, "heads": HEADS, "kv_heads": 2}


def heads_of(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What each head gives, (B, T, H, V)."""
    q = (x @ w["q"].T).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    k, v = ((x @ w[name].T).unflatten(-1, (2, -1)).transpose(1, 2) for name in "kv")
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)


@pytest.mark.parametrize(("shared", "top"), [(0, 3), (1, 2), (1, 3)])
def test_heads_are_weighed_as_the_authors_weigh_them(shared: int, top: int):
    """Gates of the chosen sum to how many there are, those of shared heads too, and both kinds' to two (the code of
    mixture-of-head attention)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        gates = F.softmax(flat @ w["head_shares.router"].T, dim=1)
        mask = F.one_hot(gates.topk(top, dim=1).indices, num_classes=HEADS - shared).sum(1)
        routed = gates * mask
        routed = routed / routed.sum(1, keepdim=True) * top
        if shared:
            own = F.softmax(flat @ w["shared_shares"].T, dim=1) * shared if shared > 1 else torch.ones(len(flat), 1)
            both = F.softmax(flat @ w["kind_shares"].T, dim=1) * 2
            routed = torch.cat((both[:, :1] * own, both[:, 1:] * routed), dim=1)
        gates_BTH = routed.unflatten(0, x.shape[:2])
        return torch.einsum("bne,bned->bned", gates_BTH, heads_of(w, x)).flatten(-2) @ w["o"].T

    compare({**MIXER, "head_shares": {"top": top, "shared": shared}}, theirs, moved=0.3)


def equations(w: Mapping[str, Tensor], x: Tensor, shared: int, top: int, even: bool) -> Tensor:
    """g_i = a_1 softmax(W_s x)_i, or a_2 softmax(W_r x)_i for the top ones, and else 0 (eqs. 5 to 7); even: each times
    how many it is one of."""
    scores = (x @ w["head_shares.router"].T).softmax(-1)
    least = scores.sort(-1, descending=True).values[..., top - 1 : top]
    gates = torch.where(scores >= least, scores, 0.0) * (top if even else 1)
    if shared:
        own = (x @ w["shared_shares"].T).softmax(-1) if shared > 1 else torch.ones(*x.shape[:2], 1)
        one, two = (x @ w["kind_shares"].T).softmax(-1).split(1, -1)
        gates = torch.cat((one * own * (2 * shared if even else 1), two * gates * (2 if even else 1)), -1)
    parts = [gates[..., h, None] * part for h, part in enumerate(heads_of(w, x).unbind(2))]
    return torch.cat(parts, -1) @ w["o"].T


@pytest.mark.parametrize(("shared", "top"), [(0, 1), (1, 2), (2, 1)])
def test_heads_are_weighed_as_the_equations_say(shared: int, top: int):
    """Without `even`, scores that nothing divides."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return equations(w, x, shared, top, even=False)

    shares = {"top": top, "shared": shared, "even": False, "router": {"renormalise": False}}
    compare({**MIXER, "head_shares": shares}, theirs, moved=0.3)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"head_shares": {"top": 4, "shared": 1}}, "EVO308"),
        ({"head_shares": {"top": 1, "shared": 3}}, "EVO308"),
        ({"head_shares": {"top": 1}}, "EVO307"),
        ({"head_shares": {"top": 2, "router": {"capacity": 1.0}}}, "EVO307"),
        ({"head_shares": {"top": 2, "router": {"choose": "each_expert"}}}, "EVO307"),
        ({"head_shares": {"top": 2}, "head_experts": {}}, "EVO308"),
    ],
)
def test_what_cannot_be(change: dict[str, Any], code: str) -> None:
    """Too few heads, choices that other tokens take part in, and heads that are experts already."""
    organism = {"width": 16, "context": 16, "stages": [stage("s", {**MIXER, **change})]}
    found = problems(from_data({"evo": 1, "organism": organism}).document)
    assert {fault.code for fault in found if fault.severity == "error"} == {code}
