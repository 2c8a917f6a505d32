"""Triton kernel: sequences of a text, as the inputs and targets of a training step."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["B", "T"])
def gather_sequences(text, starts, row, inputs, targets, B, T, COLS: tl.constexpr):
    """inputs and targets (B, T) int64, dense: text (bytes,) uint8 from starts[row, b] on, and one byte later."""
    b = tl.program_id(0)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    start = tl.load(starts + tl.load(row) * B + b)
    at = text + start + col
    tl.store(inputs + b * T + col, tl.load(at, mask=col < T, other=0).to(tl.int64), mask=col < T)
    tl.store(targets + b * T + col, tl.load(at + 1, mask=col < T, other=0).to(tl.int64), mask=col < T)
