"""An entropy coder for small integers: about two bits each, where the file would spend eight.

Integers are coded in runs of 128 of one array. A run names one of 16 Laplace distributions of fixed widths, the one
that makes it shortest, and the integers follow in interleaved range ANS (Duda, https://arxiv.org/abs/1311.2540):
lanes of 32-bit states that shed 16-bit words, the more lanes the more integers there are, because a step of all lanes
costs a call and a lane costs two bytes. Against deflate it saves a fifth: two bits are too few for whole-bit
codes, and each factor column has a distribution of its own. The frequencies come from products and square roots of
floats, which IEEE 754 rounds the same everywhere, so that a file can be read on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

RUN = 128
LEAST_LANES, MOST_LANES = 32, 2048
LANE_NUMBERS = 1024
"""How many integers a lane is there for."""
TOP = 127
"""The largest absolute value that can be coded."""

_CLASSES = 16
_SYMBOLS = 2 * TOP + 1
_BITS = 14  # frequencies add up to 2 ** 14
_LEAST = np.uint32(1 << 16)  # of a state; it sheds a word before it would reach 2 ** 32
_WORD = np.uint32(16)
_NOTHING = TOP + 1
"""What fills up an array's last run, as an absolute value."""

Numbers = NDArray[np.int8]
Bytes = NDArray[np.uint8]


def cost_bytes(values: Numbers) -> int:
    """Bytes that an array of integers in [-127, 127] takes, to the next whole one."""
    if not values.size:
        return 0
    _, bits = _classes([values])
    return math.ceil(float(bits.sum()) / 8 + _runs(len(values)) / 2)


def pack(arrays: Sequence[Numbers]) -> NDArray[np.uint8]:
    """Arrays of integers in [-127, 127] as bytes: their classes, two a byte; the lanes' states; the words."""
    arrays = [values for values in arrays if len(values)]
    if not arrays:
        return np.zeros(0, np.uint8)
    classes, _ = _classes(arrays)
    symbols = (np.concatenate(arrays).view(np.uint8) + np.uint8(TOP)).astype(np.uint8)
    spread = _spread(classes, [len(values) for values in arrays])
    lanes = lanes_for(len(symbols))
    states, words = _code(_steps(symbols, lanes, TOP), _steps(spread, lanes, 0))
    nibbles = np.pad(classes, (0, len(classes) % 2))
    heads = nibbles[::2] | nibbles[1::2] << np.uint8(4)
    return np.concatenate([heads, states.astype("<u4").view(np.uint8), words.astype("<u2").view(np.uint8)])


def unpack(packed: NDArray[np.uint8], lengths: Sequence[int]) -> list[Numbers]:
    """The inverse of `pack`, given the arrays' lengths.

    Raises:
        ValueError: these are not the bytes of arrays of such lengths.
    """
    count, runs = sum(lengths), sum(map(_runs, lengths))
    head = (runs + 1) // 2
    lanes = lanes_for(count)
    start = head + 4 * lanes
    if not count and not len(packed):
        return [np.zeros(0, np.int8) for _ in lengths]
    if not count or len(packed) < start or (len(packed) - start) % 2:
        raise ValueError("coded integers of another length than the table of tensors tells of")
    classes = np.stack([packed[:head] & 15, packed[:head] >> 4], 1).flatten()[:runs].astype(np.uint8)
    states = packed[head:start].copy().view("<u4").astype(np.uint32)
    words = packed[start:].copy().view("<u2").astype(np.uint32)
    flat = _decode(_steps(_spread(classes, lengths), lanes, 0), states, words).flatten()[:count]
    return np.split((flat - np.uint8(TOP)).view(np.int8), np.cumsum(lengths)[:-1])


def lanes_for(count: int) -> int:
    """The lanes of so many integers: a power of two."""
    return min(max(LEAST_LANES, 1 << (count // LANE_NUMBERS).bit_length()), MOST_LANES)


def _code(symbols_SL: Bytes, classes_SL: Bytes) -> tuple[NDArray, NDArray]:
    """States (L,) and words of symbols coded from the last step to the first, in the order of their reading."""
    frequencies, starts, _ = _tables()
    places_SL = classes_SL * np.int32(_SYMBOLS) + symbols_SL
    f_SL, start_SL = frequencies.take(places_SL), starts.take(places_SL)
    limit_SL, gain_SL = f_SL << np.uint32(32 - _BITS), np.uint32(1 << _BITS) - f_SL
    is_full_SL, low_SL = np.empty(f_SL.shape, np.bool_), np.empty(f_SL.shape, np.uint16)
    states = np.full(f_SL.shape[1], _LEAST)
    for step in range(len(f_SL) - 1, -1, -1):
        is_full = np.greater_equal(states, limit_SL[step], out=is_full_SL[step])
        low_SL[step] = states  # its lower half
        np.right_shift(states, _WORD, out=states, where=is_full)
        states += states // f_SL[step] * gain_SL[step] + start_SL[step]  # (s // f) 2^14 + s % f + start
    return states, low_SL[is_full_SL]


def _decode(classes_SL: Bytes, states: NDArray, words: NDArray) -> Bytes:
    """The symbols (S, L), from the first step to the last; the states must end where coding began."""
    frequencies, starts, symbols = _tables()
    found, place, mask = np.empty_like(classes_SL), 0, np.uint32((1 << _BITS) - 1)
    for step, classes in enumerate(classes_SL):
        slots = states & mask
        found[step] = symbols[classes, slots]
        states = frequencies[classes, found[step]] * (states >> np.uint32(_BITS)) + slots - starts[classes, found[step]]
        is_low = states < _LEAST
        taken = words[place : (place := place + int(is_low.sum()))]
        if len(taken) < is_low.sum():
            raise ValueError("coded integers that were cut short")
        states[is_low] = states[is_low] << _WORD | taken
    if place != len(words) or (states != _LEAST).any():
        raise ValueError("coded integers that do not end where their coding began")
    return found


def _runs(length: int) -> int:
    return -(-length // RUN)


def _spread(classes: Bytes, lengths: Sequence[int]) -> Bytes:
    """The class of each integer, from those of the runs."""
    sizes = np.full(len(classes), RUN)
    ends = np.cumsum([_runs(length) for length in lengths if length]) - 1
    sizes[ends] = [(length - 1) % RUN + 1 for length in lengths if length]
    return np.repeat(classes, sizes)


def _steps(flat: Bytes, lanes: int, fill: int) -> Bytes:
    """(steps, lanes): one number for each lane a step."""
    return np.pad(flat, (0, -len(flat) % lanes), constant_values=fill).reshape(-1, lanes)


def _classes(arrays: Sequence[Numbers]) -> tuple[Bytes, NDArray[np.float32]]:
    """The class of each run and its bits: the shortest of three, of the mean size and its neighbours.

    Sizes go in half octaves, and a class of the wrong neighbour costs a percent, so the best is hardly farther away.
    """
    rows = [
        np.pad(np.abs(values).view(np.uint8), (0, -len(values) % RUN), constant_values=_NOTHING) for values in arrays
    ]
    sizes_RN = np.concatenate(rows).reshape(-1, RUN)
    is_there_RN = sizes_RN != _NOTHING
    mean_R = (sizes_RN * is_there_RN).sum(1, dtype=np.int64) / is_there_RN.sum(1)
    middle_R = np.searchsorted(_middles(), mean_R)
    asked_CR = np.clip(middle_R + np.array([[-1], [0], [1]]), 0, _CLASSES - 1)
    bits_CR = np.stack([_bits().take(asked_R[:, None] * np.int32(TOP + 2) + sizes_RN).sum(1) for asked_R in asked_CR])
    best_1R = bits_CR.argmin(0)[None]
    return np.take_along_axis(asked_CR, best_1R, 0)[0].astype(np.uint8), np.take_along_axis(bits_CR, best_1R, 0)[0]


@cache
def _middles() -> NDArray[np.float64]:
    """Mean absolute values between those of neighbouring classes, without what each frequency has to be above 0."""
    means = (_tables()[0] - np.uint32(1)) @ np.abs(np.arange(-TOP, TOP + 1)) / (1 << _BITS)
    return np.sqrt(means[1:] * means[:-1])


@cache
def _bits() -> NDArray[np.float32]:
    """(classes, 129): the bits of each absolute value, and of none."""
    bits = _BITS - np.log2(_tables()[0][:, TOP:])
    return np.pad(bits, ((0, 0), (0, 1))).astype(np.float32)


@cache
def _tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32], Bytes]:
    """Frequencies and starts (classes, 255), and the symbol of every slot (classes, 2 ** 14)."""
    frequencies = np.array([_frequencies(index) for index in range(_CLASSES)])
    starts = frequencies.cumsum(1) - frequencies
    symbols = np.array([np.repeat(np.arange(_SYMBOLS, dtype=np.uint8), row) for row in frequencies])
    return frequencies.astype(np.uint32), starts.astype(np.uint32), symbols


def _frequencies(index: int) -> list[int]:
    """Whole frequencies, none 0, of a rounded Laplace variable of mean size 2 ** ((index - 5) / 2).

    With h = exp(-1 / (2 size)), zero has the share 1 - h, and n and -n each h^(2 n - 1) (1 - h^2) / 2.
    """
    h = (0.0591, 0.1353)[index % 2]  # exp(-2 sqrt 2) and exp(-2); a square root doubles the size
    for _ in range(index // 2):
        h = math.sqrt(h)
    shares = [1.0 - h]
    share = h * (1.0 - h * h) / 2.0
    for _ in range(TOP):
        shares.append(share)
        share *= h * h
    tail = [1 + int(part * ((1 << _BITS) - 2 * TOP - 1)) for part in shares[1:]]
    return [*tail[::-1], (1 << _BITS) - 2 * sum(tail), *tail]
