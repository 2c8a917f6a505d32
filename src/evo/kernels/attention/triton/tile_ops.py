"""Tiles as the attention kernels share them: which a program has, how they are loaded, their logits."""

from typing import NamedTuple

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


class Form(NamedTuple):
    """What of a call is compiled into all its kernels, which take it as the constant FORM.

    GROUP: query heads a key head. KIND: the stencil's code. CAP: a soft cap. ALIBI_IN_LSE: see `logits`. SEGMENTS:
    packed documents. PLACES: positions of keys. NO_MASK_TILES: tiles inside the stencil need no mask. K, V: head dims.
    TMA: rows come through the tensor copy engine. PRECISION: of products.
    """

    GROUP: int
    KIND: int
    CAUSAL: bool
    CAP: bool
    ALIBI: bool
    ALIBI_IN_LSE: bool
    SEGMENTS: bool
    PLACES: bool
    BIAS: bool
    NO_MASK_TILES: bool
    K: int
    V: int
    TMA: bool
    PRECISION: str


@triton.jit
def query_tile(H, T, offset, M: tl.constexpr):
    """Of this program's query tile: batch, head, first row, rows (M), positions of its first and last row.

    Later tiles come first: under a causal mask they see the most keys.
    """
    tiles = tl.cdiv(T, M)
    start = (tiles - 1 - tl.program_id(0) % tiles) * M
    place = tl.program_id(0) // tiles
    first = offset + start
    return place // H, place % H, start, start + tl.arange(0, M), first, tl.minimum(first + M, offset + T) - 1


@triton.jit
def head_of(ptr, b, h, b_stride, h_stride):
    """Where the part of head h of batch b begins."""
    return ptr + tl.cast(b, tl.int64) * b_stride + tl.cast(h, tl.int64) * h_stride


@triton.jit
def dense_head(ptr, b, h, T, H, D: tl.constexpr):
    """Where head h of batch b begins in a dense (B, T, H, D) tensor."""
    return ptr + (tl.cast(b, tl.int64) * T * H + h) * D


@triton.jit
def fetch(
    source, b, start, h, b_stride, t_stride, h_stride, limit,
    ROWS: tl.constexpr, DIM: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """Rows start..start+ROWS of head h of a (B, limit, H, DIM) tensor, (ROWS, DIM); what lies outside is 0.

    `source` is a pointer, or a descriptor of (B, limit, H * DIM) with blocks (1, ROWS, DIM), which takes no registers
    for addresses; one of four dims would pass q through registers. Of a pointer's offsets only the start is multiplied
    in 64 bits: those inside the tile stay the same from tile to tile.
    """
    if TMA:
        tile = source.load([b, start, h * DIM]).reshape([ROWS, DIM])
    else:
        rows = tl.arange(0, ROWS)[:, None]
        at = head_of(source, b, h, b_stride, h_stride) + tl.cast(start, tl.int64) * t_stride
        tile = tl.load(at + (rows * t_stride + tl.arange(0, DIM)[None, :]), mask=rows < limit - start, other=0.0)
    return tile


@triton.jit
def biases(ptr, m, n, rows_m, rows_n, queries, keys, t_stride, s_stride):
    """The bias, in units of log 2, of rows m + rows_m and columns n + rows_n of one head's matrix (queries, keys)."""
    at = ptr + tl.cast(m, tl.int64) * t_stride + tl.cast(n, tl.int64) * s_stride
    inside = (rows_m < queries - m) & (rows_n < keys - n)
    return LOG2E * tl.load(at + (rows_m * t_stride + rows_n * s_stride), mask=inside, other=0.0).to(tl.float32)


@triton.jit
def logits(
    a, b, at_m, at_n, alibi_bias, scale, cap, slope,
    FORM: tl.constexpr,
):  # fmt: skip
    """Logits a b^T as x and the factor that brings x to units of log 2, and the soft cap's slope (1 without a cap).

    The factor is left to be fused into an exponential. `slope` is in units of log 2.

    ALIBI_IN_LSE: slope (m - origin) is added to all logits of query m, which the log-sum-exp takes up. Since each seen
    key n lies at or before its query, the slopes then add `alibi_bias` = slope (n - origin), which depends on the key
    alone. A loop keeps it, since turning integers into floats takes as long as exponentials do.
    """
    x = tl.dot(a, tl.trans(b), input_precision=FORM.PRECISION)
    cap_grad = 1.0
    logit_scale = scale * LOG2E
    if FORM.CAP:
        tanh = 1.0 - 2.0 / (tl.exp2(x * (2.0 * LOG2E * scale / cap)) + 1.0)
        cap_grad = 1.0 - tanh * tanh
        x = tanh
        logit_scale = cap * LOG2E
    if FORM.ALIBI:
        x = x * logit_scale + (alibi_bias if FORM.ALIBI_IN_LSE else -slope * tl.abs(at_m - at_n).to(tl.float32))
        logit_scale = 1.0
    return x, logit_scale, cap_grad
