"""Activation-weighted factors: optimal in the outputs, and honest about bad moments."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.archive.snapshot.factors import Decomposition, decompose
from evo.archive.snapshot.quantise import TOP, multiply_factors
from evo.archive.snapshot.record import SnapshotError


def draw(seed: int, *shape: int) -> torch.Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alone(name: str, change: torch.Tensor, trained: torch.Tensor, moment: torch.Tensor | None) -> Decomposition:
    """All parts of one change, as a stack of one."""
    return decompose([name], change[None], trained[None], [moment], min(change.shape))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12), st.sampled_from(["none", "rows", "columns"]))
def test_all_parts_make_the_change(seed: int, rows: int, columns: int, kind: str) -> None:
    """The sum of all parts is the change, whatever the weighting, and the parts' powers fall."""
    change, inputs = draw(seed, rows, columns), draw(seed + 1, 50, columns)
    moment = {"none": None, "rows": draw(seed, rows).square(), "columns": inputs.T @ inputs}[kind]
    parts = alone("w", change, draw(seed + 2, rows, columns), moment)
    torch.testing.assert_close((parts.left_GMK @ parts.left_GMK.mT @ parts.change_GMN / parts.rows_GM1)[0], change)
    assert (parts.power_GK.diff() <= 1e-12 * parts.power_GK[:, :1]).all()


def test_outputs_are_what_counts() -> None:
    """At equal rank, weighted factors move the outputs less than half as far off as unweighted ones do."""
    inputs = draw(0, 500, 32) * torch.logspace(0, -3, 32, dtype=torch.float64)
    change, weights = draw(1, 24, 32), draw(2, 24, 32)

    def output_error(moment: torch.Tensor | None) -> float:
        parts = alone("w", change, weights, moment)
        approximation = parts.left_GMK[0, :, :6] @ parts.left_GMK[0, :, :6].T @ change
        return float((inputs @ (approximation - change).T).norm())

    assert output_error(inputs.T @ inputs / 500) < 0.5 * output_error(None)


def test_power_is_the_share_of_the_outputs() -> None:
    """The summed power of all parts is the power of the change's outputs over that of the trained weights' outputs."""
    inputs, change, weights = draw(0, 400, 8), draw(1, 6, 8), draw(2, 6, 8)
    parts = alone("w", change, weights, inputs.T @ inputs)
    expected = (inputs @ change.T).square().sum() / (inputs @ weights.T).square().sum()
    assert float(parts.power_GK.sum()) == pytest.approx(float(expected), rel=1e-2)
    assert parts.ranks(0.0).tolist() == [6]
    assert parts.ranks(math.inf).tolist() == [0]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.sampled_from(["none", "rows"]), st.floats(-6, -3))
def test_errors_are_those_of_the_level(seed: int, kind: str, power: float) -> None:
    """Of each coefficient, kept or dropped with its part, the outputs err by no more than the level on the mean."""
    level, moment = 10.0**power, {"none": None, "rows": draw(seed, 40).square()}[kind]
    spectrum = torch.logspace(0, -4, 20, dtype=torch.float64)
    change = draw(seed + 3, 40, 20) * spectrum @ draw(seed + 4, 20, 24)
    parts = alone("w", change, draw(seed + 2, 40, 24), moment)
    dense, scale = parts.dense(level)
    for restored, coefficients in (
        (multiply_factors(*(array[0] for array in parts.factors(level))), parts.power_GK.shape[1] * (40 + 24)),
        (dense[0].double() * scale.double(), 40 * 24),
    ):
        error = (parts.rows_GM1[0] * restored - parts.change_GMN[0]) @ parts.columns_GNN[0]
        saturated = float(parts.power_GK.sum()) / TOP**2
        assert float(error.square().sum()) <= 1.5 * level * coefficients + saturated


@pytest.mark.parametrize("moment", [torch.zeros(3), torch.zeros(4, 4)])
def test_no_inputs_count_as_equal(moment: torch.Tensor) -> None:
    """A moment of zeros, from a layer that nothing reached, counts as none."""
    change, weights = draw(0, 3, 4), draw(1, 3, 4)
    torch.testing.assert_close(alone("w", change, weights, moment).power_GK, alone("w", change, weights, None).power_GK)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (torch.ones(4), r"shape \(4,\), expected \(4, 4\) or \(3,\)"),
        (torch.ones(3, 3), "shape"),
        (torch.full((4, 4), math.nan), "NaN"),
        (torch.tensor([1.0, -1.0, 1.0]), "negative"),
        (torch.ones(4, 4) * torch.tensor([1.0, 9.0, 9.0, 9.0]), "not positive semidefinite"),
    ],
)
def test_bad_moments_are_named(moment: torch.Tensor, text: str) -> None:
    """A moment of another shape or without meaning raises SnapshotError with the tensor's name."""
    with pytest.raises(SnapshotError, match=rf"'layer\.w'.*{text}"):
        alone("layer.w", draw(0, 3, 4), draw(1, 3, 4), moment)
