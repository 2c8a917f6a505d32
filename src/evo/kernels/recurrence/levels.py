"""Log-linear recurrences (Guo et al. 2506.04761): past tokens lie in buckets of a Fenwick tree, each read by a weight.

At position t, token s is on level bit_length(t xor s): t alone on level 0, the token before an odd t on level 1, the
two before those on level 2, and so on. Each level has a state, and all of them pass the same transitions:

    o_t = scale sum over l of weight_t[l] q_t S_t^l,   sum over l of S_t^l = the state of `reference.recurrence`

Buckets only ever merge as t grows, so a chunk meets an earlier bucket as one. Plain torch, in chunks; the updates are
outer and delta, the decays those of heads and tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.documents import document_starts
from evo.kernels.plain import plain_table
from evo.kernels.recurrence.scores import LOG_ZERO

CHUNK = 64


@dataclass(frozen=True)
class Levels:
    """The states of all levels, (B, H, L, K, V), and how many tokens of the last document they hold, (B,) int64."""

    states_BHLKV: Tensor
    seen_B: Tensor


def recur_by_level(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHV: Tensor,
    weight_BTHL: Tensor,
    levels: Levels,
    *,
    log_decay: Tensor | None = None,
    beta_BTH: Tensor | None = None,
    segments_BT: Tensor | None = None,
) -> tuple[Tensor, Levels]:
    """o (B, T, H, V) without a scale, and the levels after the last token; float32, or float64 where states are.

    log_decay: None, (H,) or (B, T, H). beta_BTH: shares of the delta rule, None for outer updates. The last level takes
    whatever lies beyond. segments_BT: ids of packed documents, each with positions and states of its own.
    """
    B, T, H, _ = q_BTHK.shape
    compute = torch.promote_types(q_BTHK.dtype, levels.states_BHLKV.dtype)
    fall = q_BTHK.new_zeros(B, T, H) if log_decay is None else log_decay.expand(B, T, H).clamp(min=LOG_ZERO)
    share = torch.ones_like(fall) if beta_BTH is None else beta_BTH
    parts = [x.to(compute).transpose(1, 2) for x in (q_BTHK, k_BTHK, v_BTHV, weight_BTHL, fall, share)]
    starts_BT = torch.zeros(B, T, dtype=torch.bool, device=q_BTHK.device)
    if segments_BT is not None:
        starts_BT = document_starts(segments_BT)
    found: list[Tensor] = []
    for begin in range(0, T, CHUNK):
        chunk = slice(begin, begin + CHUNK)
        q, k, v, weight, fallen, shares = (x[:, :, chunk] for x in parts)
        places = _places(starts_BT[:, chunk], levels.seen_B)
        o, levels = _chunk(q, k, v, weight, fallen.cumsum(2), shares, beta_BTH is not None, places, levels)
        found.append(o)
    return torch.cat(found, dim=2).transpose(1, 2), levels


@dataclass(frozen=True)
class _Places:
    """Of each token of a chunk: its position in its document, and the number of that, 0 for one that goes on. (B, C)"""

    position_BC: Tensor
    document_BC: Tensor


def _places(starts_BC: Tensor, seen_B: Tensor) -> _Places:
    index_C = torch.arange(starts_BC.shape[1], device=starts_BC.device)
    began_BC = torch.where(starts_BC, index_C, -1).cummax(1).values
    position_BC = torch.where(began_BC < 0, index_C + seen_B[:, None], index_C - began_BC)
    return _Places(position_BC, starts_BC.cumsum(1))


def bit_length(x: Tensor) -> Tensor:
    """How many bits a number below 2^52 takes, 0 for 0."""
    return torch.frexp(x.double()).exponent.long()


def _chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weight: Tensor,
    upto: Tensor,
    share: Tensor,
    is_delta: bool,
    at: _Places,
    old: Levels,
) -> tuple[Tensor, Levels]:
    """One chunk, (B, H, C, ...)."""
    L = weight.shape[-1]
    same = (at.document_BC[:, :, None] == at.document_BC[:, None]).tril()
    goes_on = (at.document_BC == 0)[:, None, :, None]
    left = (upto[..., :, None] - upto[..., None, :]).masked_fill(~same[:, None], LOG_ZERO).exp() * same[:, None]
    scores, decayed = (q @ k.mT) * left, upto[..., None].exp() * goes_on
    reader, kept = q * decayed, k * left[..., -1, :, None]
    last = decayed[..., -1:, :]
    written, mixed = torch.diag_embed(share), None
    if is_delta:  # writes as those of an outer update: what is left of each value once later keys have taken from it
        lower = (share[..., None] * (k @ k.mT) * left).tril(-1)
        sides = torch.cat((written, share[..., None] * k * decayed), dim=-1)
        solved = torch.linalg.solve_triangular(lower, sides, upper=False, unitriangular=True)
        written, from_state = solved.split([q.shape[2], k.shape[-1]], dim=-1)
        reader, mixed = reader - scores @ from_state, kept.mT @ from_state
    level_BCCL = _on_level(at.position_BC[:, :, None] ^ at.position_BC[:, None], L).to(q.dtype)
    read = (scores @ written) * torch.einsum("bhcl,bcsl->bhcs", weight, level_BCCL)
    bucket_BL, is_used_BL = _buckets(old.seen_B - 1, L)
    met_BCLL = (_on_level(at.position_BC[:, :, None] ^ bucket_BL[:, None], L) & is_used_BL[:, None, :, None]).to(
        q.dtype
    )
    carried = torch.einsum("bhcm,bclm->bhcl", weight, met_BCLL)
    o = read @ v + torch.einsum("bhck,bhlkv,bhcl->bhcv", reader, old.states_BHLKV, carried)
    moved = old.states_BHLKV * last[:, :, None]
    if mixed is not None:
        moved = moved - mixed[:, :, None] @ old.states_BHLKV
    states = torch.einsum("blm,bhlkv->bhmkv", met_BCLL[:, -1], moved)
    states = states + torch.einsum("bhsk,bhsc,bhcv,bcl->bhlkv", kept, written, v, level_BCCL[:, -1])
    return o, Levels(states, at.position_BC[:, -1] + 1)


def _on_level(apart: Tensor, levels: int) -> Tensor:
    """On which level a position that differs by these bits lies, (..., L) bool. Weights are chosen by products with it,
    whose gradients have one order; those of a gather have none on a GPU."""
    return bit_length(apart).clamp(max=levels - 1)[..., None] == torch.arange(levels, device=apart.device)


def _buckets(latest_B: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """A position in each level's bucket at the latest token, and whether there is one, (B, L); none before the first.

    Level l is there where bit l - 1 of the latest position is set; without it and all below, that names a token of the
    bucket. The last level holds the document's first token, if anything.
    """
    level_L = torch.arange(levels, device=latest_B.device)
    is_first_L, is_last_L, bit_L = level_L == 0, level_L == levels - 1, 2 ** (level_L - 1).clamp(min=0)
    token_BL = torch.div(latest_B[:, None], 2 * bit_L, rounding_mode="floor") * 2 * bit_L
    is_there_BL = torch.div(latest_B[:, None], bit_L, rounding_mode="floor") % 2 == 1
    token_BL = torch.where(is_first_L, latest_B[:, None], token_BL).masked_fill(is_last_L, 0)
    is_there_BL = is_there_BL | is_first_L | (is_last_L & (latest_B[:, None] >= 2 ** (levels - 1)))
    return token_BL.clamp(min=0), is_there_BL & (latest_B[:, None] >= 0)


TABLE = plain_table("recurrence by level", recur_by_level)
