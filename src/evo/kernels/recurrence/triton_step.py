"""The equation itself, a few tokens long: what decoding does. One launch for every member of the family.

One program holds the state of a head for a block of value columns in registers, float32, and takes token after token.
"""

import triton
import triton.language as tl

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
