"""Integers with scales: errors stay within a step, and the nearest plane is nearer than the nearest numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.archive.snapshot.quantise import TOP, multiply_factors, round_left, round_rows

SEEDS = st.integers(0, 2**31)
SIZES = st.floats(-20, 20)  # powers of ten


def draw(seed: int, *shape: int) -> torch.Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _one(rounded: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a stack of one."""
    return rounded[0][0], rounded[1][0]


@settings(deadline=None)
@given(SEEDS, st.integers(1, 9), st.integers(1, 40), SIZES, st.floats(-3, 1))
def test_rows_err_by_half_a_step(seed: int, rows: int, columns: int, power: float, step: float) -> None:
    """No number is off by more than half a step, plus 1 % for the scale; a step is wide enough for int8."""
    values = draw(seed, rows, columns) * 10.0**power
    wanted = torch.full((rows,), 10.0 ** (power + step), dtype=torch.float64)
    integers, scales = _one(round_rows(values[None], wanted[None], None))
    assert [integers.dtype, scales.dtype] == [torch.int8, torch.bfloat16]
    widest = torch.maximum(wanted, values.abs().amax(1) / TOP)
    error = (integers.double() * scales.double()[:, None] - values).abs().amax(1)
    assert (error <= 0.51 * widest).all()


@settings(deadline=None)
@given(SEEDS, st.integers(1, 20), st.integers(1, 20), st.integers(0, 8), SIZES)
def test_factors_err_by_a_percent(seed: int, rows: int, columns: int, rank: int, power: float) -> None:
    """The product of int8 factors differs from the true one by at most a step of each part, at any size and rank."""
    left, right = draw(seed, rows, rank) * 10.0 ** (power / 2), draw(seed + 1, rank, columns) * 10.0 ** (power / 2)
    left_q, step = _one(round_left(left[None], torch.zeros(1, rank, dtype=torch.float64)))
    right_q, scale = _one(round_rows((right * step[:, None])[None], torch.zeros(1, rank, dtype=torch.float64), None))
    assert [part.dtype for part in (left_q, right_q, scale)] == [torch.int8, torch.int8, torch.bfloat16]
    bound = sum(float(left[:, i].abs().max() * right[i].abs().max()) for i in range(rank)) * 1.03 / 127
    error = (multiply_factors(left_q, right_q, scale) - left @ right).abs().max()
    assert float(error) <= bound


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_the_nearest_plane_is_nearer(seed: int) -> None:
    """Rounding with correlated inputs in mind moves the outputs at most two thirds as far as rounding each number."""
    inputs = draw(seed, 400, 32) * torch.logspace(0, -3, 32, dtype=torch.float64) @ draw(seed + 1, 32, 32)
    columns = torch.linalg.cholesky(inputs.T @ inputs / 400)
    values, step = draw(seed + 2, 50, 32), torch.full((50,), 0.3, dtype=torch.float64)

    def error(metric: torch.Tensor | None) -> float:
        metric_G = None if metric is None else metric[None]
        integers, scales = _one(round_rows(values[None], step[None], metric_G))
        return float(((integers.double() * scales.double()[:, None] - values) @ columns).norm())

    assert error(columns) < error(None) * 2 / 3


@pytest.mark.parametrize("metric", [None, torch.eye(100, dtype=torch.float64)[None]])
def test_zeros_stay_zeros(metric: torch.Tensor | None) -> None:
    """All-zero rows restore to zeros, without NaN."""
    integers, scales = round_rows(torch.zeros(1, 2, 100, dtype=torch.float64), torch.zeros(1, 2), metric)
    assert not integers.any()
    assert scales.isfinite().all()


def test_stacks_are_rounded_like_their_matrices() -> None:
    """A stack gives what its matrices give one by one, and blocks of columns what a plain loop over columns gives."""
    columns = torch.linalg.cholesky(torch.stack([torch.cov(draw(seed, 70, 300)) for seed in (0, 1)]))
    values, step = draw(2, 2, 5, 70), torch.full((2, 5), 0.3, dtype=torch.float64)
    integers, scales = round_rows(values, step, columns)
    for index in range(2):
        alone = round_rows(values[index : index + 1], step[index : index + 1], columns[index : index + 1])
        assert torch.equal(alone[0][0], integers[index])
        wanted, error = values[index] / scales[index].double()[:, None], torch.zeros(5, 70, dtype=torch.float64)
        for column in reversed(range(70)):
            spill = columns[index, :, column] / columns[index, column, column]
            target = wanted[:, column] + error @ spill
            assert torch.equal(integers[index, :, column].double(), target.round().clamp(-TOP, TOP))
            error[:, column] = wanted[:, column] - target.round()
