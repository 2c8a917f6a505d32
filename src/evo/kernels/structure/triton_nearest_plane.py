"""Triton kernel: one block of columns of the nearest plane."""

import triton
import triton.language as tl

HALF_EVEN: tl.constexpr = tl.constexpr(6755399441055744.0)
"""1.5 * 2^52: a float64 below 2^51 in size, with this added and taken away again, is rounded, halves to even."""


@triton.jit(do_not_specialize=["start", "stop", "N", "R"])
def round_block(wanted, target, spill, error, start, stop, N, R, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """error (G, stop - start, R) of columns `start` to `stop`, the last first; their targets (G, N, R) are updated.

    wanted, target (G, N, R), spill (G, N, N): float64, dense.
    """
    group = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    width = stop - start
    is_there = (column < width)[:, None] & (row < R)[None, :]
    at = group * N * R + (start + column)[:, None] * R + row[None, :]
    wanted_BR = tl.load(wanted + at, mask=is_there, other=0.0)
    target_BR = tl.load(target + at, mask=is_there, other=0.0)
    error_BR = tl.zeros((BLOCK, ROWS), tl.float64)
    for step in range(width):
        last = width - 1 - step
        is_last = (column == last)[:, None]
        wanted_R = tl.sum(tl.where(is_last, wanted_BR, 0.0), 0)
        target_R = tl.sum(tl.where(is_last, target_BR, 0.0), 0)
        error_R = wanted_R - ((target_R + HALF_EVEN) - HALF_EVEN)
        spill_B = tl.load(spill + group * N * N + (start + last) * N + start + column, mask=column < last, other=0.0)
        target_BR += spill_B[:, None] * error_R[None, :]
        error_BR = tl.where(is_last, error_R[None, :], error_BR)
    tl.store(target + at, target_BR, mask=is_there)
    at_error = group * width * R + column[:, None] * R + row[None, :]
    tl.store(error + at_error, error_BR, mask=is_there)
