"""Gated slots against fla's naive functions and attention over means of tokens, and decays by value channel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, plan
from test_recurrence_oracles import TIME, WIDTH, Weights, compare, large
from torch import Tensor

from evo.blocks.base import Block
from evo.kernels.recurrence.by_value import recur_by_value
from oracles import naive

pytestmark = pytest.mark.filterwarnings("ignore")
HEADS, KV_HEADS, KEY, VALUE, SLOTS = 4, 2, 5, 7, 6


def our(**settings: Any) -> Block:
    """The block in this language, float32, with large weights."""
    data = {"kind": "gated_slots", "heads": HEADS, "kv_heads": KV_HEADS, "key_dim": KEY, "value_dim": VALUE}
    layer = {"sublayers": [{"block": {**data, "slots": SLOTS, **settings}}]}
    whole = plan([{"name": "s", "layers": layer}], width=WIDTH, context=TIME)
    return large(built(block_of(whole, "0")).float(), 0.5)


def by_head(x: Tensor, weight: Tensor, heads: int) -> Tensor:
    """(B, T, heads, ...)."""
    return (x @ weight.T).unflatten(-1, (heads, -1))


@pytest.mark.slow
def test_gated_slot_attention():
    """GSA: silu everywhere, a share of each slot forgotten and written, one norm of all channels."""
    gsa = naive("fla.ops.gsa.naive:naive_recurrent_gsa")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = (F.silu(by_head(x, w[n], h)) for n, h in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)))
        decay = F.logsigmoid(by_head(x, w["slot"], KV_HEADS)) / 8
        k, v, decay = (y.repeat_interleave(HEADS // KV_HEADS, 2) for y in (k, v, decay))
        o = F.silu(gsa(q, k, v, 1 - decay.exp(), decay, scale=1.0)[0].flatten(2))
        return (o / (o.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * w["norm.gain"]) @ w["o"].T

    compare(our(scale=1.0, norm={"kind": "rms", "groups": 1}), theirs)


def test_bounded_memory():
    """ABC: slots are means of keys and of values by a softmax over all tokens so far, written out by position."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = (by_head(x, w[n], h) for n, h in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)))
        logits, found = by_head(x, w["slot"], KV_HEADS), []
        for t in range(x.shape[1]):
            share = logits[:, : t + 1].softmax(1)
            keys = torch.einsum("bsgm,bsgk->bgmk", share, k[:, : t + 1]).repeat_interleave(HEADS // KV_HEADS, 1)
            values = torch.einsum("bsgm,bsgv->bgmv", share, v[:, : t + 1]).repeat_interleave(HEADS // KV_HEADS, 1)
            found.append(F.scaled_dot_product_attention(q[:, t, :, None], keys, values).flatten(1))
        return torch.stack(found, 1) @ w["o"].T

    compare(our(write="softmax", act="none", out_act="none", norm="none"), theirs)


def test_decays_by_value_channel():
    """`recur_by_value` is its equation token by token, over chunks and documents, values and gradients."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, logit = (
        torch.randn(2, 37, 3, dim, generator=generator, dtype=torch.float64).requires_grad_() for dim in (4, 4, 5, 5)
    )
    state = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    segments = torch.tensor([[1] * 5 + [2] * 20 + [1] * 12, [3] * 37])
    log_decay = 9 * F.logsigmoid(logit)
    mine = recur_by_value(q, k, v, log_decay, initial_state_BHKV=state, segments_BT=segments)
    kept, found = state, []
    for t in range(37):
        if t:
            kept = kept * (segments[:, t] == segments[:, t - 1])[:, None, None, None]
        kept = kept * log_decay[:, t, :, None].exp() + k[:, t, :, :, None] * v[:, t, :, None]
        found.append(torch.einsum("bhk,bhkv->bhv", q[:, t], kept))
    wanted = torch.stack(found, 1), kept
    torch.testing.assert_close(mine, wanted)
    inputs = [q, k, v, logit, state]
    got = torch.autograd.grad(mine[0].sin().sum() + mine[1].sin().sum(), inputs, retain_graph=True)
    torch.testing.assert_close(got, torch.autograd.grad(wanted[0].sin().sum() + wanted[1].sin().sum(), inputs))
