"""The causal depthwise convolution over a few taps with bias and activation: one pass forward, one back.

A program walks along a strip of `tokens` tokens, each thread with channels of its own. What several taps see stays in
registers: every input is read once, a vector a thread, and nothing is summed across threads.
"""

import triton
import triton.language as tl


@triton.jit
def load_row(base, t, stride, T, cols, kept):
    """Row t of a (T, D) matrix; 0 where t is outside."""
    return tl.load(base + tl.cast(t, tl.int64) * stride + cols, mask=kept & (t >= 0) & (t < T), other=0.0)


@triton.jit
def load_input(x, state, t, x_t, T, D, cols, kept, STATE: tl.constexpr, W: tl.constexpr):
    """Token t, float32; those before the first are the state's."""
    row = load_row(x, t, x_t, T, cols, kept).to(tl.float32)
    if STATE:
        row += load_row(state, t + (W - 1), D, W - 1, cols, kept).to(x.dtype.element_ty).to(tl.float32)
    return row


@triton.jit
def load_number(numbers, t, T, SEGMENTS: tl.constexpr):
    """Token t's document number; the first document's before the first token."""
    return tl.load(numbers + t, mask=(t >= 0) & (t < T), other=0) if SEGMENTS else tl.full((), 0, tl.int32)


@triton.jit
def load_taps(weight, cols, kept, W: tl.constexpr):
    """weight (D, W), float32, tap by tap."""
    taps = ()
    for w in tl.static_range(W):
        taps += (tl.load(weight + cols * W + w, mask=kept, other=0.0).to(tl.float32),)
    return taps


@triton.jit
def load_bias(bias, cols, kept, BIAS: tl.constexpr):
    """bias (D), float32."""
    if BIAS:
        return tl.load(bias + cols, mask=kept, other=0.0).to(tl.float32)
    return tl.zeros([cols.shape[0]], tl.float32)


@triton.jit
def load_window(x, state, t, x_t, T, D, cols, kept, STATE: tl.constexpr, W: tl.constexpr):
    """The W-1 tokens before t, oldest first."""
    window = ()
    for w in tl.static_range(W - 1):
        window += (load_input(x, state, t + w - (W - 1), x_t, T, D, cols, kept, STATE, W),)
    return window


@triton.jit
def load_numbers(numbers, t, T, SEGMENTS: tl.constexpr, W: tl.constexpr):
    """The document numbers of the W-1 tokens before t."""
    found = ()
    for w in tl.static_range(W - 1):
        found += (load_number(numbers, t + w - (W - 1), T, SEGMENTS),)
    return found


@triton.jit
def load_rows(base, t, stride, T, cols, kept, STEP: tl.constexpr):
    """Rows t ... t + STEP - 1 as they are stored: loads under way together, and before the rows in hand are used."""
    rows = ()
    for i in tl.static_range(STEP):
        rows += (load_row(base, t + i, stride, T, cols, kept),)
    return rows


@triton.jit
def own(row, there, here, SEGMENTS: tl.constexpr):
    """The row, or zeros where it crosses into another document."""
    if SEGMENTS:
        return tl.where(there == here, row, 0.0)
    return row


@triton.jit
def weighed(window, taps, bias, ids, SEGMENTS: tl.constexpr, W: tl.constexpr):
    """bias + sum_w taps[w] window[w]: the output before the activation at the window's last token."""
    total = bias
    for w in tl.static_range(W):
        total += own(window[w], ids[w], ids[W - 1], SEGMENTS) * taps[w]
    return total


@triton.jit
def store_state(
    x, state, numbers, final, x_t, T, D, cols, kept, STATE: tl.constexpr, SEGMENTS: tl.constexpr, W: tl.constexpr
):
    """The last W-1 inputs, without those of other documents than the last token's."""
    window = load_window(x, state, T, x_t, T, D, cols, kept, STATE, W)
    ids = load_numbers(numbers, T, T, SEGMENTS, W)
    for w in tl.static_range(W - 1):
        tl.store(final + w * D + cols, own(window[w], ids[w], ids[W - 2], SEGMENTS), mask=kept)


@triton.jit(do_not_specialize=["T", "tokens"])
def forward(
    x, weight, bias, state, numbers, y, final, x_b, x_t, T, tokens,
    SILU: tl.constexpr, BIAS: tl.constexpr, STATE: tl.constexpr, SEGMENTS: tl.constexpr,
    D: tl.constexpr, W: tl.constexpr, STEP: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """y (B, T, D) and the new state (B, W-1, D), dense, as are weight, bias, the state and the document numbers."""
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)
    first = tl.program_id(1) * tokens
    b = tl.program_id(2).to(tl.int64)
    kept = cols < D
    x, y, final = x + b * x_b, y + b * T * D, final + b * (W - 1) * D
    if STATE:
        state += b * (W - 1) * D
    if SEGMENTS:
        numbers += b * T
    taps, shift = load_taps(weight, cols, kept, W), load_bias(bias, cols, kept, BIAS)
    window = load_window(x, state, first, x_t, T, D, cols, kept, STATE, W)
    ids = load_numbers(numbers, first, T, SEGMENTS, W)
    end = tl.minimum(first + tokens, T)
    rows = load_rows(x, first, x_t, end, cols, kept, STEP)
    for t in tl.range(first, end, STEP):
        ahead = load_rows(x, t + STEP, x_t, end, cols, kept, STEP)
        for i in tl.static_range(STEP):
            window += (rows[i].to(tl.float32),)
            ids += (load_number(numbers, t + i, T, SEGMENTS),)
            z = weighed(window, taps, shift, ids, SEGMENTS, W)
            if SILU:
                z = z * tl.sigmoid(z)
            at = y + tl.cast(t + i, tl.int64) * D + cols
            tl.store(at, z.to(y.dtype.element_ty), mask=kept & (t + i < end))
            window, ids = window[1:], ids[1:]
        rows = ahead
    if first + tokens >= T:
        store_state(x, state, numbers, final, x_t, T, D, cols, kept, STATE, SEGMENTS, W)


@triton.jit
def slope_of(dy, window, taps, bias, ids, SILU: tl.constexpr, SEGMENTS: tl.constexpr, W: tl.constexpr):
    """The gradient before the activation at the window's last token."""
    slope = dy.to(tl.float32)
    if SILU:
        z = weighed(window, taps, bias, ids, SEGMENTS, W)
        gate = tl.sigmoid(z)
        slope = slope * gate * (1.0 + z * (1.0 - gate))
    return slope


@triton.jit
def spread(dx, slope, taps, ids, SEGMENTS: tl.constexpr, W: tl.constexpr):
    """dx of the window's tokens but its last, each with what it gets from the slope; and a new one of the last."""
    found = ()
    for w in tl.static_range(W - 1):
        found += (dx[w] + own(slope, ids[w], ids[W - 1], SEGMENTS) * taps[w],)
    found += (slope * taps[W - 1],)
    return found


@triton.jit
def gathered(dtaps, slope, window, ids, SEGMENTS: tl.constexpr, W: tl.constexpr):
    """The gradients of the taps with what the window's last token adds to them."""
    found = ()
    for w in tl.static_range(W):
        found += (dtaps[w] + slope * own(window[w], ids[w], ids[W - 1], SEGMENTS),)
    return found


@triton.jit(do_not_specialize=["T", "tokens"])
def gradients(
    dy, dfinal, x, weight, bias, state, numbers, dx, dstate, dweight, dbias, dy_b, dy_t, x_b, x_t, T, tokens,
    SILU: tl.constexpr, BIAS: tl.constexpr, STATE: tl.constexpr, SEGMENTS: tl.constexpr, DFINAL: tl.constexpr,
    D: tl.constexpr, W: tl.constexpr, STEP: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """dx (B, T, D), dstate (B, W-1, D), and one sum a strip: dweight (B, strips, D, W), dbias (B, strips, D).

    A strip's dx needs the slopes of W-1 tokens more, which the next strip computes again; its first W-1 slopes finish
    what is the strip's before, or the state's, and count in the first strip alone.
    """
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)
    first = tl.program_id(1) * tokens
    b = tl.program_id(2).to(tl.int64)
    kept = cols < D
    x, dy, dx = x + b * x_b, dy + b * dy_b, dx + b * T * D
    if STATE:
        state += b * (W - 1) * D
        dstate += b * (W - 1) * D
    if DFINAL:
        dfinal += b * (W - 1) * D
    last = 0
    if SEGMENTS:
        numbers += b * T
        last = tl.load(numbers + T - 1)
    taps, shift = load_taps(weight, cols, kept, W), load_bias(bias, cols, kept, BIAS)
    window = load_window(x, state, first, x_t, T, D, cols, kept, STATE, W)
    ids = load_numbers(numbers, first, T, SEGMENTS, W)
    dshift = tl.zeros([COLS], tl.float32)
    pending, dtaps = (), (dshift,)
    for _ in tl.static_range(W - 1):
        pending += (dshift,)
        dtaps += (dshift,)
    end = tl.minimum(first + tokens, T)
    limit = tl.minimum(end + (W - 1), T)
    rows = load_rows(x, first, x_t, limit, cols, kept, STEP)
    slopes = load_rows(dy, first, dy_t, limit, cols, kept, STEP)
    for t in tl.range(first, end + (W - 1), STEP):
        ahead = load_rows(x, t + STEP, x_t, limit, cols, kept, STEP)
        slopes_ahead = load_rows(dy, t + STEP, dy_t, limit, cols, kept, STEP)
        for i in tl.static_range(STEP):
            window += (rows[i].to(tl.float32),)
            ids += (load_number(numbers, t + i, T, SEGMENTS),)
            slope = slope_of(slopes[i], window, taps, shift, ids, SILU, SEGMENTS, W)
            pending = spread(pending, slope, taps, ids, SEGMENTS, W)
            at = t + i - (W - 1)
            done = pending[0]
            if DFINAL:
                late = load_row(dfinal, at - (T - (W - 1)), D, W - 1, cols, kept).to(tl.float32)
                done += own(late, ids[0], last, SEGMENTS)
            place = dx + tl.cast(at, tl.int64) * D + cols
            tl.store(place, done.to(dx.dtype.element_ty), mask=kept & (at >= first) & (at < end))
            if STATE:
                place = dstate + (t + i) * D + cols
                tl.store(place, done.to(dstate.dtype.element_ty), mask=kept & (at < 0))
            slope = tl.where((first == 0) | (at >= first), slope, 0.0)
            dshift += slope
            dtaps = gathered(dtaps, slope, window, ids, SEGMENTS, W)
            window, ids, pending = window[1:], ids[1:], pending[1:]
        rows, slopes = ahead, slopes_ahead
    place = b * tl.num_programs(1) + tl.program_id(1)
    for w in tl.static_range(W):
        tl.store(dweight + (place * D + cols) * W + w, dtaps[w], mask=kept)
    if BIAS:
        tl.store(dbias + place * D + cols, dshift, mask=kept)
