"""The equation itself, a few tokens long: what decoding does. One launch for every member of the family.

One program holds the state of a head for a block of value columns in registers, float32, and takes token after token.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from evo.kernels.members import Fold
from evo.kernels.operators import operator
from evo.kernels.recurrence.triton.blocks import decay_axes
from evo.kernels.triton_support import dense, last_dim_contiguous, next_pow2

NONE = tl.constexpr(0)
HEAD = tl.constexpr(1)
TOKEN = tl.constexpr(2)
CHANNEL = tl.constexpr(3)
DELTA = tl.constexpr(1)
REMOVAL = tl.constexpr(2)


@triton.jit
def load_wide(at, kept):
    """A masked vector as float32."""
    return tl.load(at, mask=kept, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["T"])
def step(
    q_ptr, k_ptr, v_ptr, decay_ptr, beta_ptr, a_ptr, b_ptr, bonus_ptr, initial_ptr, out_ptr, final_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, H, T, scale,
    DECAY: tl.constexpr, UPDATE: tl.constexpr, BONUS: tl.constexpr, INITIAL: tl.constexpr,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VB: tl.constexpr,
):  # fmt: skip
    """out (B, T, H, V) and final state (B, H, K, V), float32; the equations are those of `reference.py`.

    q, k and v have dense rows; log decay, beta, a, b, bonus and the initial state are dense throughout.
    """
    blocks: tl.constexpr = (V + VB - 1) // VB
    block = tl.program_id(0) % blocks
    head = tl.program_id(0) // blocks
    b = (head // H).to(tl.int64)
    h = head % H
    deep = tl.arange(0, KP)
    cols = block * VB + tl.arange(0, VB)
    rows_kept = deep < K
    cols_kept = cols < V
    kept = rows_kept[:, None] & cols_kept[None, :]
    state_at = (head.to(tl.int64) * K + deep[:, None]) * V + cols[None, :]
    state = tl.zeros([KP, VB], tl.float32)
    if INITIAL:
        state += load_wide(initial_ptr + state_at, kept)
    if BONUS:
        bonus = load_wide(bonus_ptr + h * K + deep, rows_kept)
    if DECAY == HEAD:
        rate = tl.exp(tl.load(decay_ptr + h).to(tl.float32))
    for t in tl.range(0, T):
        token = (b * T + t) * H + h
        q = load_wide(q_ptr + b * q_b + t * q_t + h * q_h + deep, rows_kept)
        k = load_wide(k_ptr + b * k_b + t * k_t + h * k_h + deep, rows_kept)
        v = load_wide(v_ptr + b * v_b + t * v_t + h * v_h + cols, cols_kept)
        before = state
        if DECAY == HEAD:
            state = before * rate
        elif DECAY == TOKEN:
            state = before * tl.exp(tl.load(decay_ptr + token).to(tl.float32))
        elif DECAY == CHANNEL:
            state = before * tl.exp(load_wide(decay_ptr + token * K + deep, rows_kept))[:, None]
        if UPDATE == REMOVAL:
            a = load_wide(a_ptr + token * K + deep, rows_kept)
            put_back = load_wide(b_ptr + token * K + deep, rows_kept)
            state += put_back[:, None] * tl.sum(a[:, None] * before, 0)[None, :]
        elif UPDATE == DELTA:
            v = tl.load(beta_ptr + token).to(tl.float32) * (v - tl.sum(k[:, None] * state, 0))
        written = k[:, None] * v[None, :]
        state += written
        seen = before + bonus[:, None] * written if BONUS else state
        out = tl.sum(q[:, None] * seen, 0) * scale
        tl.store(out_ptr + token * V + cols, out.to(out_ptr.dtype.element_ty), mask=cols_kept)
    tl.store(final_ptr + state_at, state, mask=kept)


PROGRAMS = 264  # two on each multiprocessor of an H100


def _folds(q, k, v, log_decay, *others) -> tuple[Fold, Fold]:
    """Members as batches, or as heads, which may have decays and bonuses of their own."""
    batch, head = decay_axes(log_decay)
    return Fold((0, 0, 0, batch, 0, 0, 0, None, 0), (0, 0)), Fold((2, 2, 2, head, 2, 2, 2, 0, 1), (2, 1))


@operator("recur_step", _folds)
def recur_step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None, a: Tensor | None, b: Tensor | None,
    bonus: Tensor | None, initial: Tensor | None, decay: int, update: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """o (B, T, H, V) in q's dtype and the final state (B, H, K, V), float32.

    `decay` and `update` are positions in DECAYS and UPDATES.
    """
    q, k, v = last_dim_contiguous(q), last_dim_contiguous(k), last_dim_contiguous(v)
    B, T, H, K = q.shape
    V = v.shape[3]
    o = torch.empty(B, T, H, V, dtype=q.dtype, device=q.device)
    final = torch.empty(B, H, K, V, dtype=torch.float32, device=q.device)
    if T == 0:
        return o, final.zero_() if initial is None else final.copy_(initial)
    columns = _columns(next_pow2(V), B * H)
    if final.numel():
        step[(B * H * -(-V // columns),)](
            q, k, v, *(dense(x) for x in (log_decay, beta, a, b, bonus, initial)), o, final,
            *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], H, T, scale,
            decay, update, bonus is not None, initial is not None, K, V, next_pow2(K), columns, num_warps=4,
        )  # fmt: skip
    return o, final


def _columns(width: int, heads: int) -> int:
    """Value columns of one program: whole cache lines of the state where there are heads enough to fill the chip."""
    columns = min(width, 32)
    return columns if heads * (width // columns) >= PROGRAMS else 16


@recur_step.register_fake
def _(q, k, v, log_decay, beta, a, b, bonus, initial, decay, update, scale):
    B, _, H, K = q.shape
    return q.new_empty(v.shape), q.new_empty(B, H, K, v.shape[3], dtype=torch.float32)
