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
from evo.kernels.recurrence.by_value import CHUNK, recur_by_value
from evo.kernels.recurrence.scores import LOG_ZERO
from oracles import naive

pytestmark = pytest.mark.filterwarnings("ignore")
HEADS, KV_HEADS, KEY, VALUE, SLOTS = 4, 2, 5, 7, 6
Outcome = tuple[Tensor, Tensor]


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


def by_token(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, segments: Tensor | None) -> Outcome:
    """The equation of `recur_by_value`, one token at a time."""
    found: list[Tensor] = []
    for t in range(q.shape[1]):
        if t and segments is not None:
            state = state * (segments[:, t] == segments[:, t - 1])[:, None, None, None]
        state = state * log_decay[:, t, :, None].exp() + k[:, t, :, :, None] * v[:, t, :, None]
        found.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(found, 1), state


def drawn(time: int) -> list[Tensor]:
    """q, k, v, logits of decays and a state of 2 rows and 3 heads, in float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = [*((2, time, 3, dim) for dim in (4, 4, 5, 5)), (2, 3, 4, 5)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def documents(time: int) -> Tensor:
    """Ids of packed documents: many, one of which begins with a chunk and one of which has one token; and one alone."""
    ids = torch.arange(time) // 5 + (torch.arange(time) >= CHUNK).int() * 100 + (torch.arange(time) >= CHUNK + 1).int()
    return torch.stack([ids, torch.zeros_like(ids)])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rate", [0.1, 9.0, 400.0])
@pytest.mark.parametrize("time", [1, 2, CHUNK, CHUNK + 1, 5 * CHUNK + 5])
def test_decays_by_value_channel(time: int, rate: float, packed: bool):
    """`recur_by_value` is its equation token by token, values and gradients: from weak decays to what float64 keeps
    nothing of, over chunks and documents, after a state that is no zero."""
    inputs = [x.requires_grad_() for x in drawn(time)]
    q, k, v, logit, state = inputs
    log_decay, segments = (rate * F.logsigmoid(logit)).clamp(min=LOG_ZERO), documents(time) if packed else None
    mine = recur_by_value(q, k, v, log_decay, initial_state_BHKV=state, segments_BT=segments)
    wanted = by_token(q, k, v, log_decay, state, segments)
    torch.testing.assert_close(mine, wanted)
    got = torch.autograd.grad(mine[0].sin().sum() + mine[1].sin().sum(), inputs, retain_graph=True)
    torch.testing.assert_close(got, torch.autograd.grad(wanted[0].sin().sum() + wanted[1].sin().sum(), inputs))


@pytest.mark.parametrize("rate", [0.1, 9.0, 400.0])
def test_decays_by_value_channel_in_float32(rate: float):
    """In float32 it errs by rounding, whatever the decay: nothing overflows, or is divided by what decayed."""
    q, k, v, logit, state = drawn(5 * CHUNK + 5)
    log_decay = rate * F.logsigmoid(logit)
    wanted = by_token(q, k, v, log_decay, state, None)
    narrow = [x.float() for x in (q, k, v, log_decay)]
    mine = recur_by_value(*narrow, initial_state_BHKV=state.float())
    torch.testing.assert_close([x.double() for x in mine], list(wanted), rtol=1e-5, atol=1e-4)
