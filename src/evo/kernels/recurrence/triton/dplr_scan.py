"""Scans over the chunks of the generalised delta rule with the state in registers, forward and back.

What every chunk needs was made by `dplr_chunk.prepare`. SINGLE: one writer, whose values are v + what a reads.
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton.delta import packed
from evo.kernels.recurrence.triton.dplr_chunk import column_block
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit(do_not_specialize=["T"])
def forward(
    v_ptr, left_ptr, query_ptr, reader_ptr, key_ptr, writer_ptr, mixed_ptr, on_k_ptr, on_b_ptr, initial_ptr,
    o_ptr, final_ptr, states_ptr, seen_ptr, H, T,
    SINGLE: tl.constexpr, INITIAL: tl.constexpr, KEEP: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    VB: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """o (B, T, H, V), final (B, H, K, V) float32; with KEEP what a reads, seen (B, H, chunks, C, V), and the states at
    every chunk's start and the end, (B, H, chunks + 1, K, V)."""
    blocks: tl.constexpr = V // VB
    block = tl.program_id(0) % blocks
    head = tl.program_id(0) // blocks
    chunks = tl.cdiv(T, C)
    base = ((head // H).to(tl.int64) * T * H + head % H) * V + block * VB
    state = tl.zeros([K, VB], tl.float32)
    if INITIAL:
        state += tl.load(column_block(initial_ptr, head, block, K, V, K, VB)).to(tl.float32)
    for i in tl.range(0, chunks):
        chunk = head * chunks + i
        v = load_rows(v_ptr + base, i * C, H * V, T, C, VB, VB, True)
        mixed = tl.load(packed(mixed_ptr, chunk, C, C))
        reader = tl.load(packed(reader_ptr, chunk, C, K))
        query = tl.load(packed(query_ptr, chunk, C, K))
        on_b = tl.load(packed(on_b_ptr, chunk, C, C))
        writer = tl.load(packed(writer_ptr, chunk, C, K))
        left = tl.load(left_ptr + tl.cast(chunk, tl.int64) * K + tl.arange(0, K))
        known = state.to(v.dtype)
        if KEEP:
            tl.store(column_block(states_ptr, head * (chunks + 1) + i, block, K, V, K, VB), known)
        seen = tl.dot(mixed, v, input_precision=PRECISION)
        seen = tl.dot(reader, known, seen, input_precision=PRECISION).to(v.dtype)
        o = tl.dot(query, known, input_precision=PRECISION)
        state = state * left[:, None]
        if not SINGLE:
            o = tl.dot(tl.load(packed(on_k_ptr, chunk, C, C)), v, o, input_precision=PRECISION)
            state = tl.dot(tl.trans(tl.load(packed(key_ptr, chunk, C, K))), v, state, input_precision=PRECISION)
        o = tl.dot(on_b, seen, o, input_precision=PRECISION)
        state = tl.dot(tl.trans(writer), seen, state, input_precision=PRECISION)
        store_rows(o_ptr + base, o, i * C, H * V, T, C, VB, VB)
        if KEEP:
            tl.store(column_block(seen_ptr, chunk, block, C, V, C, VB), seen)
    tl.store(column_block(final_ptr, head, block, K, V, K, VB), state)
    if KEEP:
        end = column_block(states_ptr, head * (chunks + 1) + chunks, block, K, V, K, VB)
        tl.store(end, state.to(states_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["T"])
def back(
    do_ptr, left_ptr, query_ptr, reader_ptr, writer_ptr, on_b_ptr, dfinal_ptr, dseen_ptr, dstates_ptr, dinitial_ptr,
    H, T, DFINAL: tl.constexpr, K: tl.constexpr, V: tl.constexpr, VB: tl.constexpr, C: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of `seen` (B, H, chunks, C, V), of the state at every chunk's end (B, H, chunks, K, V), and of the
    initial state (B, H, K, V) float32."""
    blocks: tl.constexpr = V // VB
    block = tl.program_id(0) % blocks
    head = tl.program_id(0) // blocks
    chunks = tl.cdiv(T, C)
    base = ((head // H).to(tl.int64) * T * H + head % H) * V + block * VB
    dstate = tl.zeros([K, VB], tl.float32)
    if DFINAL:
        dstate += tl.load(column_block(dfinal_ptr, head, block, K, V, K, VB)).to(tl.float32)
    for i in tl.range(0, chunks):
        here = chunks - 1 - i
        chunk = head * chunks + here
        do = load_rows(do_ptr + base, here * C, H * V, T, C, VB, VB, True)
        on_b = tl.load(packed(on_b_ptr, chunk, C, C))
        writer = tl.load(packed(writer_ptr, chunk, C, K))
        query = tl.load(packed(query_ptr, chunk, C, K))
        reader = tl.load(packed(reader_ptr, chunk, C, K))
        left = tl.load(left_ptr + tl.cast(chunk, tl.int64) * K + tl.arange(0, K))
        known = dstate.to(do.dtype)
        tl.store(column_block(dstates_ptr, chunk, block, K, V, K, VB), known)
        dseen = tl.dot(tl.trans(on_b), do, input_precision=PRECISION)
        dseen = tl.dot(writer, known, dseen, input_precision=PRECISION).to(do.dtype)
        dstate = tl.dot(tl.trans(query), do, dstate * left[:, None], input_precision=PRECISION)
        dstate = tl.dot(tl.trans(reader), dseen, dstate, input_precision=PRECISION)
        tl.store(column_block(dseen_ptr, chunk, block, C, V, C, VB), dseen)
    tl.store(column_block(dinitial_ptr, head, block, K, V, K, VB), dstate)
