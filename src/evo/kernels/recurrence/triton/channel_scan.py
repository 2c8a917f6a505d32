"""The scan over time of a state that decays at its own rate in every key channel; all inside chunks is given."""

import triton
import triton.language as tl

from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit(do_not_specialize=["T"])
def channel_scan(
    x_ptr, y_ptr, z_ptr, left_ptr, scores_ptr, initial_ptr, out_ptr, states_ptr, final_ptr, z_b, z_t, z_h, H, T,
    BACK: tl.constexpr, READ: tl.constexpr, KEEP: tl.constexpr, INITIAL: tl.constexpr, FINAL: tl.constexpr,
    K: tl.constexpr, Z: tl.constexpr, KP: tl.constexpr, ZB: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Forward: (x, y, z) = (reader, writer, v) gives o. Back: (writer, reader, do) gives dv and dinitial.

    With READ, out (B, T, H, Z); with KEEP, the state that enters each chunk, states (B, H, chunks, K, Z) in z's type;
    with FINAL, the state after the last, (B, H, K, Z) float32. x, y, left and scores are those of `operands`.
    """
    blocks: tl.constexpr = (Z + ZB - 1) // ZB
    block = tl.program_id(0) % blocks
    head = (tl.program_id(0) // blocks).to(tl.int64)
    b = head // H
    h = head % H
    wide = ZB if Z % ZB == 0 else Z - block * ZB
    deep = tl.arange(0, KP)
    cols = block * ZB + tl.arange(0, ZB)[None, :]
    inside = deep[:, None] * Z + cols
    kept = (deep[:, None] < K) & (cols < Z)
    state = tl.zeros([KP, ZB], tl.float32)
    if INITIAL:
        state += tl.load(initial_ptr + head * K * Z + inside, mask=kept, other=0.0).to(tl.float32)
    base = (b * T * H + h) * K
    chunks = tl.cdiv(T, C)
    pair = tl.arange(0, C)[:, None] * C + tl.arange(0, C)[None, :]
    for i in tl.range(0, chunks):
        chunk = chunks - 1 - i if BACK else i
        start = chunk * C
        number = head * chunks + chunk
        y = load_rows(y_ptr + base, start, H * K, T, C, K, KP, True)
        z = load_rows(z_ptr + b * z_b + h * z_h + block * ZB, start, z_t, T, C, wide, ZB, True)
        left = tl.load(left_ptr + number * K + deep, mask=deep < K, other=0.0)
        entering = state.to(z.dtype)
        if KEEP:
            tl.store(states_ptr + number * K * Z + inside, entering, mask=kept)
        if READ:
            x = load_rows(x_ptr + base, start, H * K, T, C, K, KP, True)
            scores = tl.load(scores_ptr + number * C * C + pair)
            out = tl.dot(x, entering, input_precision=PRECISION)
            out = tl.dot(tl.trans(scores) if BACK else scores, z, out, input_precision=PRECISION)
            out_base = out_ptr + (b * T * H + h) * Z + block * ZB
            store_rows(out_base, out, start, H * Z, T, C, wide, ZB)
        state = tl.dot(tl.trans(y), z, state * left[:, None], input_precision=PRECISION)
    if FINAL:
        tl.store(final_ptr + head * K * Z + inside, state, mask=kept)
