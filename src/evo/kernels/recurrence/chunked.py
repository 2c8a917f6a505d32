"""The recurrence family in chunks: matmuls inside a chunk, one affine map of the state from chunk to chunk.

Whatever the decay and the update, a chunk with incoming state S gives
    outputs   = reader S + own          next state = left S + mixing S + written
with `left` the decay over the chunk. So a member of the family is a function that fills a `ChunkMap`.
Source: WY form of products of Householder-like matrices (Bischof & Van Loan 1987; Yang et al. 2406.06484, 2412.06464),
chunked gated linear attention (2312.06635).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.recurrence.scores import LOG_ZERO, decayed_scores


@dataclass(frozen=True)
class ChunkMap:
    """The affine map of every chunk. Leading dims (B, H, N), N chunks of C tokens; no mixing for outer updates."""

    reader_CK: Tensor
    own_CV: Tensor
    left_K1: Tensor | None
    written_KV: Tensor
    mixing_KK: Tensor | None = None


@dataclass(frozen=True)
class Chunks:
    """Inputs cut into chunks, (B, H, N, C, ...). `upto`: log decay summed up to and with a token, `before`: without."""

    q: Tensor
    k: Tensor
    v: Tensor
    upto: Tensor | None
    before: Tensor | None
    beta_C1: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None

    def to_end(self) -> Tensor | None:
        """Factor that is left of a token's write at the end of its chunk, or None."""
        return None if self.upto is None else (self.upto[..., -1:, :] - self.upto).exp()

    def over_chunk(self) -> Tensor | None:
        """Decay over the whole chunk, (..., K or 1, 1)."""
        return None if self.upto is None else self.upto[..., -1, :, None].exp()


def recurrence(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHV: Tensor,
    *,
    scale: float,
    log_decay: Tensor | None = None,
    beta_BTH: Tensor | None = None,
    dplr: tuple[Tensor, Tensor] | None = None,
    bonus_HK: Tensor | None = None,
    initial_state_BHKV: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Same as `reference.recurrence`: o (B, T, H, V) in q's dtype, final state (B, H, K, V) in at least float32."""
    B, T, H, K = q_BTHK.shape
    compute = torch.promote_types(q_BTHK.dtype, torch.float32)
    state = q_BTHK.new_zeros(B, H, K, v_BTHV.shape[-1], dtype=compute)
    if initial_state_BHKV is not None:
        state = initial_state_BHKV.to(compute)
    if T == 0:
        return v_BTHV.to(q_BTHK.dtype), state
    size = min(chunk, 1 << (T - 1).bit_length())
    chunks = _cut(q_BTHK * scale, k_BTHK, v_BTHV, log_decay, beta_BTH, dplr, size, compute)
    bonus = None if bonus_HK is None else bonus_HK.to(compute)[None, :, None, None, :]
    if dplr is not None:
        maps = _dplr_maps(chunks, bonus)
    elif beta_BTH is not None:
        maps = _delta_maps(chunks)
    else:
        maps = _outer_maps(chunks, bonus)
    incoming_BHNKV, final = _carry(maps, state)
    o = maps.own_CV + maps.reader_CK @ incoming_BHNKV
    o = o.flatten(2, 3)[:, :, :T].transpose(1, 2)
    return o.to(q_BTHK.dtype), final


def _cut(q, k, v, log_decay, beta_BTH, dplr, size: int, compute: torch.dtype) -> Chunks:
    """Pad time to whole chunks (zeros leave the state as it is) and bring heads forward."""
    T = q.shape[1]
    padding = -T % size

    def cut(x_BTHX: Tensor) -> Tensor:
        x = F.pad(x_BTHX.to(compute), (0, 0, 0, 0, 0, padding)) if padding else x_BTHX.to(compute)
        return x.transpose(1, 2).unflatten(2, (-1, size))

    upto, before = _cumulate(log_decay, q.shape, cut)
    a, b = (None, None) if dplr is None else (cut(x) for x in dplr)
    beta = None if beta_BTH is None else cut(beta_BTH[..., None])
    return Chunks(cut(q), cut(k), cut(v), upto, before, beta, a, b)


def _cumulate(log_decay: Tensor | None, shape: torch.Size, cut) -> tuple[Tensor | None, Tensor | None]:
    """Cumulative log decays in each chunk, with and without the token itself."""
    if log_decay is None:
        return None, None
    B, T, H, _ = shape
    if log_decay.ndim == 1:
        log_decay = log_decay.expand(B, T, H)
    steps = cut(log_decay if log_decay.ndim == 4 else log_decay[..., None]).clamp(min=LOG_ZERO)
    upto = steps.cumsum(dim=-2)
    return upto, F.pad(upto[..., :-1, :], (0, 0, 1, 0))


def _outer_maps(c: Chunks, bonus: Tensor | None) -> ChunkMap:
    """S_t = D_t S + k^T v. With a bonus the output reads the state before the write, plus the token's bonus."""
    seen_from = c.upto if bonus is None else c.before
    scores = decayed_scores(c.q, c.k, seen_from, c.upto, strict=bonus is not None)
    own = scores @ c.v
    if bonus is not None:
        own = own + (c.q * bonus * c.k).sum(-1, keepdim=True) * c.v
    return ChunkMap(_decayed(c.q, seen_from), own, c.over_chunk(), _ending(c, c.k).transpose(-1, -2) @ c.v)


def _delta_maps(c: Chunks) -> ChunkMap:
    """The delta rule: pseudo-values W solve (I + beta A) W = beta (V - K S), then all is an outer update with W."""
    assert c.beta_C1 is not None
    among_keys, scores = decayed_scores(torch.stack([c.k, c.q]), c.k, c.upto, c.upto, strict=False)
    among_keys = (among_keys * c.beta_C1).tril(-1)
    sides = torch.cat([c.beta_C1 * c.v, c.beta_C1 * _decayed(c.k, c.upto)], dim=-1)
    values, from_state = _solve(among_keys, sides).split([c.v.shape[-1], c.k.shape[-1]], dim=-1)
    ending = _ending(c, c.k).transpose(-1, -2)
    reader = _decayed(c.q, c.upto) - scores @ from_state
    return ChunkMap(reader, scores @ values, c.over_chunk(), ending @ values, -(ending @ from_state))


def _dplr_maps(c: Chunks, bonus: Tensor | None) -> ChunkMap:
    """Generalised delta: what a reads, U, solves (I - A_ab) U = a S + A_ak V; b writes it back."""
    assert c.a is not None
    assert c.b is not None
    writers = torch.stack([c.b, c.k])
    on_b, on_k = decayed_scores(c.a, writers, c.before, c.upto, strict=True)
    sides = torch.cat([on_k @ c.v, _decayed(c.a, c.before)], dim=-1)
    values, from_state = _solve(-on_b, sides).split([c.v.shape[-1], c.k.shape[-1]], dim=-1)
    seen_from, strict = (c.upto, False) if bonus is None else (c.before, True)
    to_b, to_k = decayed_scores(c.q, writers, seen_from, c.upto, strict=strict)
    own = to_k @ c.v + to_b @ values
    if bonus is not None:
        own = own + (c.q * bonus * c.k).sum(-1, keepdim=True) * c.v
    ending_b = _ending(c, c.b).transpose(-1, -2)
    written = _ending(c, c.k).transpose(-1, -2) @ c.v + ending_b @ values
    return ChunkMap(_decayed(c.q, seen_from) + to_b @ from_state, own, c.over_chunk(), written, ending_b @ from_state)


def _decayed(x: Tensor, upto: Tensor | None) -> Tensor:
    return x if upto is None else x * upto.exp()


def _ending(c: Chunks, x: Tensor) -> Tensor:
    to_end = c.to_end()
    return x if to_end is None else x * to_end


def _solve(strictly_lower_CC: Tensor, sides_CX: Tensor) -> Tensor:
    """(I + L)^-1 sides, by forward substitution, in the precision of the sides."""
    strictly_lower_CC = strictly_lower_CC.to(sides_CX.dtype)
    return torch.linalg.solve_triangular(strictly_lower_CC, sides_CX, upper=False, unitriangular=True)


def _carry(maps: ChunkMap, state_BHKV: Tensor) -> tuple[Tensor, Tensor]:
    """The state that enters each chunk, (B, H, N, K, V), and the one that leaves the last."""
    incoming = []
    for n in range(maps.written_KV.shape[2]):
        incoming.append(state_BHKV)
        following = maps.written_KV[:, :, n]
        following = following + (state_BHKV if maps.left_K1 is None else maps.left_K1[:, :, n] * state_BHKV)
        if maps.mixing_KK is not None:
            following = following + maps.mixing_KK[:, :, n] @ state_BHKV
        state_BHKV = following
    return torch.stack(incoming, dim=2), state_BHKV
