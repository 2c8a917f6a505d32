"""First-order recurrences channel by channel: a thread walks along its channel, everything is read and written once.

Rows are loaded several at a time, and before the ones in hand are used. Threads of a warp lie side by side on the
channels, and nothing is summed across them.
"""

import triton
import triton.language as tl


@triton.jit
def load_row(base, t, T, X, cols, kept, other):
    """Row t of a (T, X) matrix; `other` where t is outside."""
    return tl.load(base + tl.cast(t, tl.int64) * X + cols, mask=kept & (t >= 0) & (t < T), other=other)


@triton.jit
def load_rows(base, t, T, X, cols, kept, other, BACK: tl.constexpr, STEP: tl.constexpr):
    """Rows t, t + 1, ... or t, t - 1, ...: STEP of them."""
    rows = ()
    for i in tl.static_range(STEP):
        rows += (load_row(base, t - i if BACK else t + i, T, X, cols, kept, other),)
    return rows


@triton.jit(do_not_specialize=["T", "X"])
def forward(decay, inputs, before, states, T, X, STEP: tl.constexpr, COLS: tl.constexpr):
    """states_t = decay_t states_{t-1} + inputs_t, all (B, T, X), from `before` (B, X); dense, float32."""
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)
    b = tl.program_id(1).to(tl.int64)
    kept = cols < X
    decay, inputs, states = decay + b * T * X, inputs + b * T * X, states + b * T * X
    state = tl.load(before + b * X + cols, mask=kept, other=0.0)
    factors = load_rows(decay, 0, T, X, cols, kept, 1.0, False, STEP)
    added = load_rows(inputs, 0, T, X, cols, kept, 0.0, False, STEP)
    for t in tl.range(0, T, STEP):
        factors_ahead = load_rows(decay, t + STEP, T, X, cols, kept, 1.0, False, STEP)
        added_ahead = load_rows(inputs, t + STEP, T, X, cols, kept, 0.0, False, STEP)
        for i in tl.static_range(STEP):
            state = factors[i] * state + added[i]
            tl.store(states + tl.cast(t + i, tl.int64) * X + cols, state, mask=kept & (t + i < T))
        factors, added = factors_ahead, added_ahead


@triton.jit(do_not_specialize=["T", "X"])
def backward(
    dstates, decay, before, states, ddecay, dinputs, dbefore, T, X, STEP: tl.constexpr, COLS: tl.constexpr
):  # fmt: skip
    """dinputs_t = dstates_t + decay_{t+1} dinputs_{t+1} from the last token on, and ddecay_t = dinputs_t states_{t-1}.

    Rows before the first token count as a decay of 1 and a gradient of 0, which leaves dbefore as it is.
    """
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)
    b = tl.program_id(1).to(tl.int64)
    kept = cols < X
    dstates, decay, states = dstates + b * T * X, decay + b * T * X, states + b * T * X
    ddecay, dinputs = ddecay + b * T * X, dinputs + b * T * X
    first = tl.load(before + b * X + cols, mask=kept, other=0.0)
    coming = tl.zeros([COLS], tl.float32)
    slopes = load_rows(dstates, T - 1, T, X, cols, kept, 0.0, True, STEP)
    factors = load_rows(decay, T - 1, T, X, cols, kept, 1.0, True, STEP)
    earlier = load_rows(states, T - 2, T, X, cols, kept, 0.0, True, STEP)
    for done in tl.range(0, T, STEP):
        last = T - 1 - done
        slopes_ahead = load_rows(dstates, last - STEP, T, X, cols, kept, 0.0, True, STEP)
        factors_ahead = load_rows(decay, last - STEP, T, X, cols, kept, 1.0, True, STEP)
        earlier_ahead = load_rows(states, last - 1 - STEP, T, X, cols, kept, 0.0, True, STEP)
        for i in tl.static_range(STEP):
            t = last - i
            at, inside = tl.cast(t, tl.int64) * X + cols, kept & (t >= 0)
            slope = slopes[i] + coming
            tl.store(dinputs + at, slope, mask=inside)
            tl.store(ddecay + at, slope * tl.where(t == 0, first, earlier[i]), mask=inside)
            coming = factors[i] * slope
        slopes, factors, earlier = slopes_ahead, factors_ahead, earlier_ahead
    tl.store(dbefore + b * X + cols, coming, mask=kept)
