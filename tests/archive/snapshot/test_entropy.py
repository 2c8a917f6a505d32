"""The entropy coder: exact round trips, few bytes, and an error for bytes of anything else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.archive.snapshot.entropy import TOP, cost_bytes, lanes_for, pack, unpack

ARRAYS = st.lists(st.lists(st.integers(-TOP, TOP), max_size=300), max_size=4)


def laplace(seed: int, size: float, count: int) -> np.ndarray:
    """Rounded Laplace numbers of a mean size."""
    values = np.random.default_rng(seed).laplace(scale=size, size=count)
    return np.clip(np.round(values), -TOP, TOP).astype(np.int8)


@settings(deadline=None)
@given(ARRAYS)
def test_round_trip_is_exact(lists: list[list[int]]) -> None:
    """Any integers in any number of arrays come back."""
    arrays = [np.array(values, np.int8) for values in lists]
    again = unpack(pack(arrays), [len(array) for array in arrays])
    assert [array.tolist() for array in again] == lists


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(-2.5, 5), st.integers(0, 4000))
def test_bytes_are_near_the_entropy(seed: int, octave: float, count: int) -> None:
    """Laplace numbers of any size cost at most 4 % more than their entropy, and the classes and states."""
    values = laplace(seed, 2.0**octave, count)
    ideal = laplace(seed + 1, 2.0**octave, 200_000)
    shares = np.bincount(ideal.astype(int) + TOP, minlength=2 * TOP + 1) / len(ideal)
    bits = -np.log2(np.maximum(shares, 1e-6))[values.astype(int) + TOP].sum()
    assert cost_bytes(values) - 1 < 1.04 * bits / 8 + count / 256 + 2  # the cost is told to the next whole byte


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(-2.5, 5), st.integers(1, 40_000)), min_size=1, max_size=4))
def test_the_cost_told_is_the_cost_paid(parts: list[tuple[float, int]]) -> None:
    """The bytes of packed arrays are the sum of their costs, within the lanes' states and a percent."""
    arrays = [laplace(index, 2.0**octave, count) for index, (octave, count) in enumerate(parts)]
    told, paid = sum(map(cost_bytes, arrays)), len(pack(arrays))
    assert abs(paid - told) <= 6 * lanes_for(sum(map(len, arrays))) + 0.01 * told


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=400), st.lists(st.integers(0, 300), max_size=3))
def test_other_bytes_are_refused(data: bytes, lengths: list[int]) -> None:
    """Bytes that are no code raise ValueError, or are read in full to arrays of the lengths asked for."""
    try:
        arrays = unpack(np.frombuffer(data, np.uint8), lengths)
    except ValueError:
        return
    assert [len(array) for array in arrays] == lengths


def test_cut_codes_are_refused() -> None:
    """A code cut short, or made longer, by a word raises ValueError."""
    packed = pack([laplace(0, 2.0, 1000)])
    for wrong in (packed[:-2], packed[:-1], np.pad(packed, (0, 2)), packed[:40]):
        with pytest.raises(ValueError, match="coded integers"):
            unpack(wrong, [1000])
