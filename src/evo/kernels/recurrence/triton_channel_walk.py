"""Walks over time whose state decays at its own rate in every key channel; the scores inside chunks are given.

`values` reads and writes through the decaying channels (outputs, and the gradient of v walking back); `channels`
returns them (the gradients of q, and of k walking back, with that of the log decays).
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton_channel import load_before
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit(do_not_specialize=["T"])
def values(
    x_ptr, y_ptr, z_ptr, upto_ptr, scores_ptr, initial_ptr, out_ptr, final_ptr,
    x_b, x_t, x_h, y_b, y_t, y_h, z_b, z_t, z_h, out_b, out_t, out_h, H, T, scale,
    BACK: tl.constexpr, BEFORE: tl.constexpr, INITIAL: tl.constexpr, K: tl.constexpr, Z: tl.constexpr,
    KP: tl.constexpr, ZB: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Forward: (x, y, z) = (q, k, v) gives o and the final state. Back: (k, q, do) gives dv and dinitial."""
    blocks: tl.constexpr = (Z + ZB - 1) // ZB
    block = tl.program_id(0) % blocks
    head = tl.program_id(0) // blocks
    b = (head // H).to(tl.int64)
    h = head % H
    wide = ZB if Z % ZB == 0 else Z - block * ZB
    deep = tl.arange(0, KP)
    cols = block * ZB + tl.arange(0, ZB)[None, :]
    state_at = (head.to(tl.int64) * K + deep[:, None]) * Z + cols
    kept = (deep[:, None] < K) & (cols < Z)
    state = tl.zeros([KP, ZB], tl.float32)
    if INITIAL:
        state += tl.load(initial_ptr + state_at, mask=kept, other=0.0).to(tl.float32)
    upto_base = upto_ptr + (b * T * H + h) * K
    chunks = tl.cdiv(T, C)
    scores_at = (
        scores_ptr + head.to(tl.int64) * chunks * C * C + tl.arange(0, C)[:, None] * C + tl.arange(0, C)[None, :]
    )
    for i in tl.range(0, chunks):
        chunk = chunks - 1 - i if BACK else i
        start = chunk * C
        x = load_rows(x_ptr + b * x_b + h * x_h, start, x_t, T, C, K, KP, True)
        y = load_rows(y_ptr + b * y_b + h * y_h, start, y_t, T, C, K, KP, True)
        z = load_rows(z_ptr + b * z_b + h * z_h + block * ZB, start, z_t, T, C, wide, ZB, True)
        upto = load_rows(upto_base, start, H * K, T, C, K, KP, True)
        last = tl.minimum(start + C, T) - 1
        whole = tl.load(upto_base + tl.cast(last, tl.int64) * H * K + deep, mask=deep < K, other=0.0)
        to_end = tl.exp2(whole[None, :] - upto)
        from_start = tl.exp2(load_before(upto_base, start, H * K, T, C, K, KP) if BEFORE else upto)
        pairs = tl.load(scores_at + chunk * (C * C))
        if BACK:
            pairs = tl.trans(pairs)
            reader = (x.to(tl.float32) * to_end).to(x.dtype)
            writer = (y.to(tl.float32) * (from_start * scale)).to(y.dtype)
            out = tl.dot(pairs, z, input_precision=PRECISION) * scale
            out = tl.dot(reader, state.to(x.dtype), out, input_precision=PRECISION)
        else:
            reader = (x.to(tl.float32) * from_start).to(x.dtype)
            writer = (y.to(tl.float32) * to_end).to(y.dtype)
            out = tl.dot(pairs, z, input_precision=PRECISION)
            out = tl.dot(reader, state.to(x.dtype), out, input_precision=PRECISION) * scale
        state = tl.dot(tl.trans(writer), z, state * tl.exp2(whole)[:, None], input_precision=PRECISION)
        store_rows(out_ptr + b * out_b + h * out_h + block * ZB, out, start, out_t, T, C, wide, ZB)
    tl.store(final_ptr + state_at, state, mask=kept)


@triton.jit(do_not_specialize=["T"])
def channels(
    x_ptr, y_ptr, z_ptr, upto_ptr, add_ptr, initial_ptr, out_ptr, key_ptr, dq_ptr, bonus_ptr, at_end_ptr, ddecay_ptr,
    x_b, x_t, x_h, y_b, y_t, y_h, z_b, z_t, z_h, key_b, key_t, key_h, H, T, scale,
    BACK: tl.constexpr, BEFORE: tl.constexpr, INITIAL: tl.constexpr, DDECAY: tl.constexpr, AT_END: tl.constexpr,
    V: tl.constexpr, K: tl.constexpr, VP: tl.constexpr, KB: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Forward: (x, y, z) = (do, v, k) gives dq. Back: (v, do, q) gives dk, and with DDECAY the log decays' gradient.

    `add`, `out`, `dq` and `ddecay` are dense (B, T, H, K). The state is (V, K); `initial` is given as (K, V).
    A step's log decay scales all that was written before it and is read after it: the running sum, from the end, of
    q dq - k dk. A bonus joins both sides at one token without decaying, and is taken out.
    """
    blocks: tl.constexpr = (K + KB - 1) // KB
    block = tl.program_id(0) % blocks
    head = tl.program_id(0) // blocks
    b = (head // H).to(tl.int64)
    h = head % H
    wide = KB if K % KB == 0 else K - block * KB
    near = tl.arange(0, KB)
    cols = block * KB + near
    deep = tl.arange(0, VP)[:, None]
    state = tl.zeros([VP, KB], tl.float32)
    if INITIAL:
        at = initial_ptr + (head.to(tl.int64) * K + cols[None, :]) * V + deep
        state += tl.load(at, mask=(deep < V) & (cols[None, :] < K), other=0.0).to(tl.float32)
    base = (b * T * H + h) * K + block * KB
    tail = tl.zeros([KB], tl.float32)
    if AT_END:
        tail += tl.load(at_end_ptr + head * K + cols, mask=cols < K, other=0.0)
    chunks = tl.cdiv(T, C)
    for i in tl.range(0, chunks):
        start = (chunks - 1 - i) * C if BACK else i * C
        x = load_rows(x_ptr + b * x_b + h * x_h, start, x_t, T, C, V, VP, True)
        y = load_rows(y_ptr + b * y_b + h * y_h, start, y_t, T, C, V, VP, True)
        z = load_rows(z_ptr + b * z_b + h * z_h + block * KB, start, z_t, T, C, wide, KB, True)
        upto = load_rows(upto_ptr + base, start, H * K, T, C, wide, KB, True)
        last = tl.minimum(start + C, T) - 1
        whole = tl.load(upto_ptr + base + tl.cast(last, tl.int64) * H * K + near, mask=near < wide, other=0.0)
        to_end = tl.exp2(whole[None, :] - upto)
        from_start = tl.exp2(load_before(upto_ptr + base, start, H * K, T, C, wide, KB) if BEFORE else upto) * scale
        read = to_end if BACK else from_start
        write = from_start if BACK else to_end
        out = tl.dot(x, state.to(x.dtype), input_precision=PRECISION) * read
        out += load_rows(add_ptr + base, start, H * K, T, C, wide, KB, True).to(tl.float32)
        store_rows(out_ptr + base, out, start, H * K, T, C, wide, KB)
        written = (z.to(tl.float32) * write).to(z.dtype)
        state = tl.dot(tl.trans(y), written, state * tl.exp2(whole)[None, :], input_precision=PRECISION)
        if DDECAY:
            key = load_rows(key_ptr + b * key_b + h * key_h + block * KB, start, key_t, T, C, wide, KB, True)
            dq = load_rows(dq_ptr + base, start, H * K, T, C, wide, KB, True)
            by_query = z.to(tl.float32) * dq.to(tl.float32)
            by_key = key.to(tl.float32) * out
            change = tl.cumsum(by_query - by_key, 0, reverse=True) + tail[None, :]
            tail += tl.sum(by_query - by_key, 0)
            if BEFORE:
                own = tl.sum(x.to(tl.float32) * y.to(tl.float32), 1)[:, None] * scale
                bonus = tl.load(bonus_ptr + h * K + cols, mask=cols < K, other=0.0).to(tl.float32)[None, :]
                change += own * bonus * z.to(tl.float32) * key.to(tl.float32) - by_query
            store_rows(ddecay_ptr + base, change, start, H * K, T, C, wide, KB)
