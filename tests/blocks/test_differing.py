"""Heads that are taken from others, against what is published: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from block_variants import plan, stage
from papers import ATTENTION, by_heads, compare
from torch import Tensor


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_every_second_head_is_taken_from_the_one_before(kv_heads: int):
    """attn[0::2] - sigmoid(lam) attn[1::2], lam = W x (Differential Transformer V2, the authors' DiffAttnV2)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q = (x @ w["q"].T).unflatten(-1, (4, -1)).transpose(1, 2)
        k, v = ((x @ w[name].T).unflatten(-1, (kv_heads, -1)).transpose(1, 2) for name in "kv")
        attn = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
        lam = (x @ w["less"].T).sigmoid()[..., None]
        return (attn[:, :, 0::2] - lam * attn[:, :, 1::2]).flatten(-2) @ w["o"].T

    compare({**ATTENTION, "heads": 4, "kv_heads": kv_heads, "subtract": True}, theirs, moved=0.3)


@pytest.mark.parametrize(("ratio", "kv_heads"), [(2, 2), (2, 6), (5, 1)])
def test_one_head_of_a_group_is_taken_from_all_others(ratio: int, kv_heads: int):
    """attn1 - sigmoid(lam) repeat(attn2): the last of ratio + 1 heads is noise for the others, each
    of which has a lam = W x of its own (grouped differential attention, 2510.06949, in the form of Motif 3)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q = (x @ w["q"].T).unflatten(-1, (6, -1)).transpose(1, 2)
        k, v = ((x @ w[name].T).unflatten(-1, (kv_heads, -1)).transpose(1, 2) for name in "kv")
        attn = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
        attn = attn.reshape(*x.shape[:2], 6 // (ratio + 1), ratio + 1, -1)
        signal, noise = attn.split((ratio, 1), dim=3)
        lam = (x @ w["less"].T).sigmoid()[..., None]
        y = signal.flatten(2, 3) - lam * noise.repeat_interleave(ratio, dim=3).flatten(2, 3)
        return y.flatten(-2) @ w["o"].T

    mixer = {**ATTENTION, "heads": 6, "head_dim": 4, "kv_heads": kv_heads, "subtract": True, "subtract_from": ratio}
    compare(mixer, theirs, moved=0.3)


@pytest.mark.parametrize(("ratio", "noise", "groups"), [(2, 2, 2), (3, 2, 1), (4, 1, 1)])
def test_differential_heads_share_what_is_taken_from_them(ratio: int, noise: int, groups: int):
    """Motif 2's grouped differential attention (2510.06949): signal heads over the keys of their group, noise heads
    over others, values of both halves for both; each noise head is taken from `ratio` signal heads, then a norm."""
    dim, start = 4, 0.4

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q = (x @ w["q"].T).unflatten(-1, (noise * (ratio + 1), dim)).transpose(1, 2)
        k, v = ((x @ w[name].T).unflatten(-1, (2 * groups, dim)).transpose(1, 2) for name in "kv")
        q1, q2 = q.split((noise * ratio, noise), 1)
        k1, k2 = k.chunk(2, 1)
        values = torch.cat(v.chunk(2, 1), -1)

        def attend(queries: Tensor, keys: Tensor) -> Tensor:
            times = queries.shape[1] // groups
            both = (part.repeat_interleave(times, dim=1) for part in (keys, values))
            return F.scaled_dot_product_attention(queries, *both, is_causal=True)

        one, two = (w[f"lambda_q{n}"].mul(w[f"lambda_k{n}"]).sum().exp() for n in (1, 2))
        y = attend(q1, k1) - (one - two + start) * attend(q2, k2).repeat_interleave(ratio, dim=1)
        y = F.rms_norm(y, (2 * dim,), w["inner_norm.gain"], 1e-6) * (1 - start)
        return y.transpose(1, 2).flatten(2) @ w["o"].T

    mixer = {**ATTENTION, "heads": noise * (ratio + 1), "kv_heads": 2 * groups, "head_dim": dim, "differ": start}
    compare({**mixer, "differ_from": ratio, "inner_norm": {"kind": "rms"}}, theirs, moved=0.2)


def test_latent_heads_are_taken_from_others_as_by_motif_3():
    """Queries of a narrow vector, keys and values of a head for each group, made of another; of each group the last
    head is taken from the others, then an elementwise gate of the queries' vector (Motif 3's MotifGDLAttention)."""
    groups, ratio, nope, values = 2, 2, 4, 5

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        heads = groups * (ratio + 1)
        down = F.rms_norm(x @ w["q_down"].T, (6,), w["q_norm.gain"], 1e-6)
        q = (down @ w["q"].T).unflatten(-1, (heads, -1)).transpose(1, 2)
        latent, shared = (x @ w["kv_down"].T).split((7, 2), -1)
        latent = F.rms_norm(latent, (7,), w["kv_norm.gain"], 1e-6)
        k = (latent @ w["k"].T).unflatten(-1, (groups, nope)).transpose(1, 2)
        k = torch.cat((k, shared[:, None].expand(-1, groups, -1, -1)), -1)
        v = (latent @ w["v"].T).unflatten(-1, (groups, values)).transpose(1, 2)
        k, v = (part.repeat_interleave(ratio + 1, dim=1) for part in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        attn1, attn2 = out.unflatten(2, (groups, ratio + 1)).split((ratio, 1), dim=3)
        lam = (x @ w["less"].T).unflatten(-1, (groups, ratio)).sigmoid()[..., None]
        y = (attn1 - lam * attn2).flatten(2)
        return (y * (down @ w["gate"].T).sigmoid()) @ w["o"].T

    mixer = {
        "kind": "latent",
        "heads": groups * (ratio + 1),
        "kv_heads": groups,
        "q_rank": 6,
        "kv_rank": 7,
        "nope_dim": nope,
        "rope_dim": 2,
        "value_dim": values,
        "subtract": True,
        "subtract_from": ratio,
        "gate": "channel",
        "gate_from": "q",
        "position": {"kind": "none"},
    }
    compare(mixer, theirs, moved=0.3)


def test_gates_and_norms_behind_are_those_of_pairs():
    """A gate and a norm behind the difference have as many heads as there are pairs."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (by_heads(x @ w[name].T) for name in "qkv")
        attn = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        pair = attn[:, :, 0] - (x @ w["less"].T).sigmoid() * attn[:, :, 1]
        pair = F.rms_norm(pair, pair.shape[-1:], w["inner_norm.gain"], 1e-6) * (x @ w["gate"].T).sigmoid()
        return pair @ w["o"].T

    compare({**ATTENTION, "subtract": True, "inner_norm": {"kind": "rms"}, "gate": "channel"}, theirs, moved=0.3)


def test_odd_heads_have_no_pairs():
    """Nothing is dropped in silence."""
    with pytest.raises(AssertionError, match="EVO308"):
        plan([stage("s", {**ATTENTION, "heads": 3, "head_dim": 4, "subtract": True})])


@pytest.mark.parametrize("change", [{"heads": 8}, {"kv_heads": 8}, {"gate": "head"}, {"persistent": 2}])
def test_unlike_groups_are_checked(change: dict[str, object]):
    """Heads that are no equal parts, keys that do not divide them, and what needs like groups."""
    mixer = {**ATTENTION, "heads": 6, "head_dim": 4, "kv_heads": 4, "differ": 0.3, "differ_from": 2}
    with pytest.raises(AssertionError, match=r"EVO30[18]"):
        plan([stage("s", {**mixer, **change})])
