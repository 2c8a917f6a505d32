"""Triton kernel: queries and keys turned by position, and values copied beside them, in one launch."""

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


NUMBERS = (
    "q_batch", "q_time", "q_head", "k_batch", "k_time", "k_head", "v_batch", "v_time", "v_head",
    "q_row", "k_row", "v_row", "tokens", "T", "H", "G", "R", "K", "V",
)  # fmt: skip


@triton.jit(do_not_specialize=NUMBERS)
def rotate(
    q, k, v, q_out, k_out, v_out, cos, sin,
    q_batch, q_time, q_head, k_batch, k_time, k_head, v_batch, v_time, v_head, q_row, k_row, v_row,
    tokens, T, H, G, R, K, V, direction,
    ROWS: tl.constexpr, PAIRS: tl.constexpr, REST: tl.constexpr, VALUES: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """q (B, T, H, K), k (B, T, G, K), v (B, T, G, V) with dense dims -> rows of tokens with dense heads, `*_row` apart.

    cos, sin (T, R) float32. direction -1 is back. Axis 1 of the grid runs over all heads. Strides, rows, R, K and V
    count in units of UNIT elements, so that the compiler knows how wide it may load.
    """
    R, K, V = R * UNIT, K * UNIT, V * UNIT
    token = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    head = tl.program_id(1)
    inside, batch, time = token < tokens, token // T, token % T
    if head >= H + G:
        dim = tl.arange(0, VALUES)[None, :]
        from_v = (batch * v_batch + time * v_time + (head - H - G) * v_head) * UNIT
        is_value = inside & (dim < V)
        value = tl.load(v + from_v + dim, mask=is_value)
        tl.store(v_out + token * (v_row * UNIT) + (head - H - G) * V + dim, value, mask=is_value)
    else:
        pair = tl.arange(0, PAIRS)[None, :]
        c = tl.load(cos + time * R + pair, mask=inside & (pair < R), other=0.0)
        s = tl.load(sin + time * R + pair, mask=inside & (pair < R), other=0.0) * direction
        if head < H:
            from_q = (batch * q_batch + time * q_time + head * q_head) * UNIT
            turn(q, q_out, from_q, token * (q_row * UNIT) + head * K, c, s, inside, R, K, PAIRS, REST)
        else:
            from_k = (batch * k_batch + time * k_time + (head - H) * k_head) * UNIT
            turn(k, k_out, from_k, token * (k_row * UNIT) + (head - H) * K, c, s, inside, R, K, PAIRS, REST)
