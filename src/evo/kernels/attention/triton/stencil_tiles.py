"""What a stencil means to a tile: whether it is empty, whether every query in it sees every key, and else its mask.

Positions are absolute.
"""

import triton
import triton.language as tl

FULL = tl.constexpr(0)
WINDOW = tl.constexpr(1)
DILATED = tl.constexpr(2)
BLOCK = tl.constexpr(3)
RING = tl.constexpr(4)
PREFIX = tl.constexpr(5)
KIND_CODES = {"full": 0, "window": 1, "dilated": 2, "block": 3, "ring": 4, "prefix": 5}

FAR = tl.constexpr(2**30)


@triton.jit
def ceil_to(x, tile: tl.constexpr):
    """The multiple of `tile` at or after x, for x of any sign; never below 0."""
    return tl.maximum((x + tile - 1) // tile, 0) * tile


@triton.jit
def floor_to(x, tile: tl.constexpr):
    """The multiple of `tile` at or before x; 0 for negative x."""
    return (tl.maximum(x, 0) // tile) * tile


@triton.jit
def key_band(first, last, keys, size, dilation, KIND: tl.constexpr, CAUSAL: tl.constexpr):
    """Keys [low, high) outside which the queries at positions first..last see nothing but sinks or a prefix."""
    low = 0
    high = keys
    if KIND == WINDOW:
        low = first - size + 1
        high = last + size
    elif KIND == DILATED:
        low = first - (size - 1) * dilation
        high = last + (size - 1) * dilation + 1
    elif KIND == BLOCK:
        low = (first // size) * size
        high = (last // size + 1) * size
    if CAUSAL:
        high = last + 1
    return tl.maximum(low, 0), tl.minimum(high, keys)


@triton.jit
def key_core(first, last, keys, size, KIND: tl.constexpr, CAUSAL: tl.constexpr):
    """Keys [low, high) that every query at positions first..last sees; low > high when there are none to name."""
    low = 0
    high = keys
    if KIND == WINDOW:
        low = last - size + 1
        high = first + size
    elif KIND == BLOCK:
        low = (last // size) * size
        high = (first // size + 1) * size
    elif KIND == DILATED or KIND == RING:  # noqa: SIM109 (Triton compiles no `in`)
        low = keys
        high = 0
    if CAUSAL:
        high = tl.minimum(high, first + 1)
    return low, tl.minimum(high, keys)


@triton.jit
def key_ranges(
    first,
    last,
    keys,
    size,
    sinks,
    dilation,
    KIND: tl.constexpr,
    CAUSAL: tl.constexpr,
    NO_MASK_TILES: tl.constexpr,
    N: tl.constexpr,
):
    """Tile-aligned borders of a query tile's sweep: [0, head), [low, core), [core, end), [end, high).

    Only [core, end) may go without a mask; it is empty when NO_MASK_TILES is false.
    """
    low, high = key_band(first, last, keys, size, dilation, KIND, CAUSAL)
    head = sinks
    if KIND == PREFIX:
        head = tl.maximum(size, sinks)
    head = ceil_to(tl.minimum(head, keys), N)
    low = tl.maximum(floor_to(low, N), head)
    high = tl.maximum(high, low)
    core = low
    end = low
    if NO_MASK_TILES:
        core_low, core_high = key_core(first, last, keys, size, KIND, CAUSAL)
        core = tl.minimum(tl.maximum(ceil_to(core_low, N), low), ceil_to(high, N))
        end = tl.maximum(floor_to(core_high, N), core)
    return head, low, core, end, high


@triton.jit
def query_ranges(
    first, last, queries, keys, size, sinks, dilation, offset,
    KIND: tl.constexpr, CAUSAL: tl.constexpr, NO_MASK_TILES: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    """Tile-aligned borders, in rows, of the queries that see a key at positions first..last: low, core, end, high.

    The sweep is [low, core) masked, [core, end) free, [end, high) masked. Distances are symmetric, so the band
    of queries about keys is the band of keys about queries with causality turned round.
    """
    low, high = key_band(first, last, FAR, size, dilation, KIND, False)
    core_low, core_high = key_core(first, last, FAR, size, KIND, False)
    if CAUSAL:
        low = tl.maximum(low, first)
        core_low = tl.maximum(core_low, last)
    for_all = first < sinks
    if KIND == PREFIX:
        for_all = for_all | (first < size)
    high = tl.where(for_all, FAR, high)
    if not CAUSAL or KIND == PREFIX:
        low = tl.where(for_all, 0, low)
    high = tl.maximum(tl.minimum(high - offset, queries), 0)
    low = tl.minimum(floor_to(low - offset, M), ceil_to(high, M))
    core = low
    end = low
    if NO_MASK_TILES:
        core = tl.minimum(tl.maximum(ceil_to(core_low - offset, M), low), ceil_to(high, M))
        end = tl.maximum(floor_to(tl.minimum(core_high - offset, queries), M), core)
    return low, core, end, high


@triton.jit
def ring_is_empty(first_m, last_m, first_n, last_n, sinks, size, period, CAUSAL: tl.constexpr):
    """Whether no distance between the two runs of positions falls on the ring's window."""
    low = first_m - last_n
    high = last_m - first_n
    reach = size - 1
    if CAUSAL:
        low = tl.maximum(low, 0)
    else:
        shift = (tl.abs(low) // period + 2) * period + reach
        low = low + shift
        high = high + shift
        reach = 2 * reach
    turn = low % period
    away = (turn > reach) & (low + period - turn > high)
    return ((high < low) | away) & (first_n >= sinks)


@triton.jit
def seen(at_m, at_n, keys, size, sinks, dilation, period, KIND: tl.constexpr, CAUSAL: tl.constexpr):
    """Mask (M, N) of `Stencil.allows`, from query positions (M, 1) and key positions (1, N); or (N, M), both turned."""
    ahead = at_m - at_n
    distance = ahead if CAUSAL else tl.abs(ahead)
    mask = at_n < keys
    if KIND != FULL and KIND != PREFIX:
        if KIND == WINDOW:
            near = distance < size
        elif KIND == DILATED:
            near = (distance < size * dilation) & (distance % dilation == 0)
        elif KIND == BLOCK:
            near = (at_m // size) == (at_n // size)
        else:
            turn = distance % period
            if not CAUSAL:
                turn = tl.minimum(turn, (period - turn) % period)
            near = turn < size
        mask = mask & (near | (at_n < sinks))
    if CAUSAL:
        past = ahead >= 0
        if KIND == PREFIX:
            past = past | (at_n < size)
        mask = mask & past
    return mask
