"""Integers with scales: errors stay within half a step, packing is exact."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.archive.snapshot.quantise import (
    GROUP,
    expand_groups,
    multiply_factors,
    pack_nibbles,
    quantise_factors,
    quantise_groups,
    unpack_nibbles,
)

SEEDS = st.integers(0, 2**31)
SIZES = st.floats(-20, 20)  # powers of ten


@given(st.lists(st.integers(-8, 7), max_size=200))
def test_nibbles_pack_exactly(values: list[int]) -> None:
    """Packing and unpacking 4-bit integers of any number gives the same integers in half the bytes."""
    integers = torch.tensor(values, dtype=torch.int8)
    packed = pack_nibbles(integers)
    assert len(packed) == (len(values) + 1) // 2
    assert torch.equal(unpack_nibbles(packed, len(values)), integers)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 300), SIZES, st.sampled_from([4, 8]))
def test_groups_err_by_half_a_step(seed: int, count: int, power: float, bits: int) -> None:
    """No value is off by more than half a step of its own group, whatever its size, plus 1 % for the scale."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=generator, dtype=torch.float64) * 10.0**power
    restored = expand_groups(*quantise_groups(values, bits))
    for start in range(0, count, GROUP):
        group = slice(start, start + GROUP)
        step = float(values[group].abs().max()) / (2 ** (bits - 1) - 1)
        assert float((restored[group] - values[group]).abs().max()) <= 0.51 * step


@settings(deadline=None)
@given(SEEDS, st.integers(1, 20), st.integers(1, 20), st.integers(0, 8), SIZES)
def test_factors_err_by_a_percent(seed: int, rows: int, columns: int, rank: int, power: float) -> None:
    """The product of int8 factors differs from the true one by at most a step of each part, at any size and rank."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator, dtype=torch.float64) * 10.0 ** (power / 2)
    right = torch.randn(rank, columns, generator=generator, dtype=torch.float64) * 10.0 ** (power / 2)
    integers = quantise_factors(left, right)
    assert [part.dtype for part in integers] == [torch.int8, torch.int8, torch.bfloat16]
    bound = sum(float(left[:, i].abs().max() * right[i].abs().max()) for i in range(rank)) * 1.03 / 127
    error = (multiply_factors(*integers) - left @ right).abs().max()
    assert float(error) <= bound


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_stay_zeros(bits: int) -> None:
    """All-zero groups restore to zeros, without NaN."""
    assert torch.equal(expand_groups(*quantise_groups(torch.zeros(100), bits)), torch.zeros(100, dtype=torch.float64))
