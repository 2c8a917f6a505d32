"""Gradients of log decays per token, from what every step reads and writes.

A step's decay scales whatever was written before it and is read at it or later; so its gradient is the sum, over the
steps from it to the end, of q·dq (what they read) less k·dk (what they wrote, and is read later). In half precision
each term has its rounding, and a sum over thousands of terms would be more rounding than gradient. So sums run over
segments, and begin with an anchor: the product of the state at the segment's end and of that state's gradient.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def pieces_sum(base, stride, rows, kept, PIECES: tl.constexpr, L: tl.constexpr):
    """What lies at `rows` of every piece, summed: (L,) float32."""
    total = tl.zeros([L], tl.float32)
    for piece in tl.static_range(PIECES):
        total += tl.load(base + piece * stride + rows, mask=kept, other=0.0)
    return total


@triton.jit(do_not_specialize=["T", "segments"])
def step_sums(
    query_ptr, key_ptr, anchor_ptr, end_ptr, out_ptr, H, T, heads_in_all, segments,
    BEFORE: tl.constexpr, END: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
    ANCHORS: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """out (B, T, H) float32; one program a head and segment of L tokens."""
    segment = tl.program_id(0) % segments
    head = tl.program_id(0) // segments
    b = (head // H).to(tl.int64)
    h = head % H
    rows = segment * L + tl.arange(0, L)
    kept = rows < T
    line = tl.cast(heads_in_all, tl.int64) * T
    at = head.to(tl.int64) * T
    query = pieces_sum(query_ptr + at, line, rows, kept, QUERIES, L)
    key = pieces_sum(key_ptr + at, line, rows, kept, KEYS, L)
    total = tl.cumsum(query - key, 0, reverse=True)
    if segment < segments - 1:
        for piece in tl.static_range(ANCHORS):
            total += tl.load(anchor_ptr + (piece * heads_in_all + head) * segments + segment + 1)
    elif END:
        total += tl.load(end_ptr + head)
    if BEFORE:
        total -= query
    tl.store(out_ptr + (b * T + rows) * H + h, total, mask=kept)


def step_gradients(
    dot_query: Tensor, dot_key: Tensor, anchors: Tensor, at_end: Tensor | None, before: bool, length: int
) -> Tensor:
    """Gradient of each step's log decay, (B, T, H) float32.

    dot_query and dot_key (pieces, B, H, T) are q·dq and k·dk; anchors (pieces, B, H, segments), empty where one segment
    of `length` holds all; at_end (B, H), the final state times its gradient. With `before` a step's decay does not
    scale what that step reads. All are float32.
    """
    B, H, T = dot_query.shape[1:]
    out = torch.empty(B, T, H, dtype=torch.float32, device=dot_query.device)
    segments = -(-T // length)
    if out.numel():
        step_sums[(B * H * segments,)](
            dot_query, dot_key, anchors, at_end, out, H, T, B * H, segments, before, at_end is not None, len(dot_query),
            len(dot_key), len(anchors) if segments > 1 else 0, length,
        )  # fmt: skip
    return out
