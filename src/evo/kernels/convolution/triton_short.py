"""The causal depthwise convolution over a few taps with bias and activation: one pass forward, two back.

A program holds a tile of tokens and channels and reads it once a shift; all but the first come from the first cache.
"""

import triton
import triton.language as tl


@triton.jit
def load_tile(base, start, shift, stride, T, cols, kept, ROWS: tl.constexpr):
    """Rows start + shift ... of a (T, D) matrix, float32; rows outside are 0.

    Only the start is multiplied in 64 bits.
    """
    near = tl.arange(0, ROWS) + shift
    inside = (start + near >= 0) & (start + near < T)
    at = base + tl.cast(start, tl.int64) * stride + near[:, None] * stride + cols[None, :]
    return tl.load(at, mask=inside[:, None] & kept[None, :], other=0.0).to(tl.float32)


@triton.jit
def load_numbers(base, start, shift, T, ROWS: tl.constexpr):
    """Document numbers of rows start + shift ...: 0 before the first token, -1 after the last."""
    rows = start + tl.arange(0, ROWS) + shift
    numbers = tl.load(base + rows, mask=(rows >= 0) & (rows < T), other=0)
    return tl.where(rows < T, numbers, -1)


@triton.jit
def load_seen(
    x, state, numbers, start, shift, at, x_t, T, D, cols, kept,
    STATE: tl.constexpr, SEGMENTS: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The inputs at rows start + shift ... that rows start + at ... see: those of their own documents.

    Before the first token stands the state.
    """
    tile = load_tile(x, start, shift, x_t, T, cols, kept, ROWS)
    if STATE:
        tile += load_tile(state, start + W - 1, shift, D, W - 1, cols, kept, ROWS)
    if SEGMENTS:
        same = load_numbers(numbers, start, shift, T, ROWS) == load_numbers(numbers, start, at, T, ROWS)
        tile = tl.where(same[:, None], tile, 0.0)
    return tile


@triton.jit
def before_activation(
    x, state, numbers, weight, bias, start, at, x_t, T, D, cols, kept,
    STATE: tl.constexpr, SEGMENTS: tl.constexpr, BIAS: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """bias + sum_w weight[:, w] x_{t - (W-1) + w} for rows start + at ..."""
    total = tl.zeros([ROWS, cols.shape[0]], tl.float32)
    if BIAS:
        total += tl.load(bias + cols, mask=kept, other=0.0).to(tl.float32)[None, :]
    for w in tl.static_range(W):
        tap = tl.load(weight + cols * W + w, mask=kept, other=0.0).to(tl.float32)
        seen = load_seen(
            x, state, numbers, start, at + w - (W - 1), at, x_t, T, D, cols, kept, STATE, SEGMENTS, W, ROWS
        )
        total += seen * tap[None, :]
    return total


@triton.jit(do_not_specialize=["T"])
def forward(
    x_ptr, weight_ptr, bias_ptr, state_ptr, numbers_ptr, y_ptr, final_ptr, x_b, x_t, T,
    SILU: tl.constexpr, BIAS: tl.constexpr, STATE: tl.constexpr, SEGMENTS: tl.constexpr,
    D: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """y (B, T, D) and the new state (B, W-1, D), dense, as are weight, bias, the state and the document numbers."""
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)
    start = tl.program_id(1) * ROWS
    b = tl.program_id(2).to(tl.int64)
    kept = cols < D
    x, state, numbers = x_ptr + b * x_b, state_ptr, numbers_ptr
    if STATE:
        state += b * (W - 1) * D
    if SEGMENTS:
        numbers += b * T
    y = before_activation(
        x, state, numbers, weight_ptr, bias_ptr, start, 0, x_t, T, D, cols, kept, STATE, SEGMENTS, BIAS, W, ROWS
    )
    if SILU:
        y = y * tl.sigmoid(y)
    rows = tl.arange(0, ROWS)[:, None]
    at = y_ptr + (b * T + start) * D + rows * D + cols[None, :]
    tl.store(at, y.to(y_ptr.dtype.element_ty), mask=(rows < T - start) & kept[None, :])
    if start + ROWS >= T:
        for w in tl.static_range(W - 1):
            latest = load_seen(x, state, numbers, T - 1, w - (W - 2), 0, x_t, T, D, cols, kept, STATE, SEGMENTS, W, 1)
            place = final_ptr + (b * (W - 1) + w) * D + tl.arange(0, 1)[:, None] + cols[None, :]
            tl.store(place, latest.to(final_ptr.dtype.element_ty), mask=kept[None, :])


@triton.jit(do_not_specialize=["T", "tiles"])
def tap_gradients(
    dy_ptr, x_ptr, weight_ptr, bias_ptr, state_ptr, numbers_ptr, slope_ptr, dweight_ptr, dbias_ptr,
    dy_b, dy_t, x_b, x_t, T, tiles,
    SILU: tl.constexpr, BIAS: tl.constexpr, STATE: tl.constexpr, SEGMENTS: tl.constexpr,
    D: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Sums over `tiles` tiles of tokens, dweight (B, parts, D, W) and dbias (B, parts, D).

    With SILU also the gradient before the activation, slope (B, T, D); without one it is dy.
    """
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)
    part = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    kept = cols < D
    x, state, numbers = x_ptr + b * x_b, state_ptr, numbers_ptr
    if STATE:
        state += b * (W - 1) * D
    if SEGMENTS:
        numbers += b * T
    near = tl.arange(0, ROWS)[:, None]
    dbias = tl.zeros([ROWS, COLS], tl.float32)
    dtaps = ()
    for _ in tl.static_range(W):
        dtaps += (tl.zeros([ROWS, COLS], tl.float32),)
    for i in tl.range(0, tiles):
        start = (part * tiles + i) * ROWS
        slope = load_tile(dy_ptr + b * dy_b, start, 0, dy_t, T, cols, kept, ROWS)
        if SILU:
            z = before_activation(
                x, state, numbers, weight_ptr, bias_ptr, start, 0, x_t, T, D, cols, kept,
                STATE, SEGMENTS, BIAS, W, ROWS,
            )  # fmt: skip
            gate = tl.sigmoid(z)
            slope = slope * gate * (1.0 + z * (1.0 - gate))
            at = slope_ptr + (b * T + start) * D + near * D + cols[None, :]
            tl.store(at, slope.to(slope_ptr.dtype.element_ty), mask=(near < T - start) & kept[None, :])
        if BIAS:
            dbias += slope
        sums = ()
        for w in tl.static_range(W):
            seen = load_seen(x, state, numbers, start, w - (W - 1), 0, x_t, T, D, cols, kept, STATE, SEGMENTS, W, ROWS)
            sums += (dtaps[w] + slope * seen,)
        dtaps = sums
    place = b * tl.num_programs(1) + part
    for w in tl.static_range(W):
        tl.store(dweight_ptr + (place * D + cols) * W + w, tl.sum(dtaps[w], 0), mask=kept)
    if BIAS:
        tl.store(dbias_ptr + place * D + cols, tl.sum(dbias, 0), mask=kept)


@triton.jit(do_not_specialize=["T"])
def input_gradients(
    slope_ptr, dfinal_ptr, weight_ptr, numbers_ptr, dx_ptr, dstate_ptr, slope_b, slope_t, T,
    STATE: tl.constexpr, SEGMENTS: tl.constexpr, DFINAL: tl.constexpr,
    D: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """dx (B, T, D) and, with a state, dstate (B, W-1, D): its tokens come before the first."""
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)
    start = tl.program_id(1) * ROWS
    b = tl.program_id(2).to(tl.int64)
    kept = cols < D
    if STATE:
        start -= W - 1
    numbers = numbers_ptr
    if SEGMENTS:
        numbers += b * T
        own = load_numbers(numbers, start, 0, T, ROWS)
    dx = tl.zeros([ROWS, COLS], tl.float32)
    for ahead in tl.static_range(W):
        slope = load_tile(slope_ptr + b * slope_b, start, ahead, slope_t, T, cols, kept, ROWS)
        if SEGMENTS:
            slope = tl.where((own == load_numbers(numbers, start, ahead, T, ROWS))[:, None], slope, 0.0)
        tap = tl.load(weight_ptr + cols * W + (W - 1 - ahead), mask=kept, other=0.0).to(tl.float32)
        dx += slope * tap[None, :]
    if DFINAL:
        late = load_tile(dfinal_ptr + b * (W - 1) * D, start - (T - (W - 1)), 0, D, W - 1, cols, kept, ROWS)
        if SEGMENTS:
            late = tl.where((own == tl.load(numbers + T - 1))[:, None], late, 0.0)
        dx += late
    near = tl.arange(0, ROWS)[:, None]
    at = dx_ptr + (b * T + start) * D + near * D + cols[None, :]
    tl.store(at, dx.to(dx_ptr.dtype.element_ty), mask=(near < T - start) & (near >= -start) & kept[None, :])
    if STATE:
        at = dstate_ptr + (b * (W - 1) + start + W - 1) * D + near * D + cols[None, :]
        tl.store(at, dx.to(dstate_ptr.dtype.element_ty), mask=(near < -start) & kept[None, :])
