"""Triton kernel: queries and keys turned by position, in one launch."""

import triton
import triton.language as tl


@triton.jit
def turn(x, y, at_x, at_y, cos, sin, inside, R, K, PAIRS: tl.constexpr, REST: tl.constexpr):
    """One head of a tile of tokens: pairs (i, i + R) turned, the dims from 2 R on copied."""
    pair = tl.arange(0, PAIRS)[None, :]
    is_pair = inside & (pair < R)
    a = tl.load(x + at_x + pair, mask=is_pair, other=0.0).to(tl.float32)
    b = tl.load(x + at_x + R + pair, mask=is_pair, other=0.0).to(tl.float32)
    tl.store(y + at_y + pair, (a * cos - b * sin).to(y.dtype.element_ty), mask=is_pair)
    tl.store(y + at_y + R + pair, (b * cos + a * sin).to(y.dtype.element_ty), mask=is_pair)
    if REST > 0:
        dim = 2 * R + tl.arange(0, REST)[None, :]
        is_rest = inside & (dim < K)
        tl.store(y + at_y + dim, tl.load(x + at_x + dim, mask=is_rest), mask=is_rest)


@triton.jit
def rotate(
    q, k, q_out, k_out, cos, sin,
    q_batch, q_time, q_head, k_batch, k_time, k_head, tokens, T, H, G, R, K, direction,
    ROWS: tl.constexpr, PAIRS: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """q (B, T, H, K) and k (B, T, G, K) with dense dims -> dense; cos, sin (T, R) float32. direction -1 is back."""
    token = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    head = tl.program_id(1)
    inside, batch, time = token < tokens, token // T, token % T
    pair = tl.arange(0, PAIRS)[None, :]
    c = tl.load(cos + time * R + pair, mask=inside & (pair < R), other=0.0)
    s = tl.load(sin + time * R + pair, mask=inside & (pair < R), other=0.0) * direction
    if head < H:
        from_q = batch * q_batch + time * q_time + head * q_head
        turn(q, q_out, from_q, (token * H + head) * K, c, s, inside, R, K, PAIRS, REST)
    else:
        from_k = batch * k_batch + time * k_time + (head - H) * k_head
        turn(k, k_out, from_k, (token * G + head - H) * K, c, s, inside, R, K, PAIRS, REST)
