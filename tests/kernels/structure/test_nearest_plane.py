"""The nearest plane: the kernel gives what the loop gives, and that is nearer than rounding each number."""

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS, poison
from torch import Tensor

from evo.kernels.structure import nearest_plane


def problem(G: int, N: int, R: int) -> tuple[Tensor, Tensor]:
    """Numbers to round, and Cholesky factors of correlated inputs."""
    generator = torch.Generator().manual_seed(G * N + R)
    inputs = torch.randn(G, 3 * N, N, generator=generator, dtype=torch.float64)
    inputs = inputs @ (
        torch.eye(N, dtype=torch.float64) + 0.5 * torch.rand(N, N, generator=generator).double() / N**0.5
    )
    wanted = 3.0 * torch.randn(G, N, R, generator=generator, dtype=torch.float64)
    return wanted, torch.linalg.cholesky(inputs.mT @ inputs / (3 * N))


@pytest.mark.parametrize(("G", "N", "R"), [(1, 1, 1), (2, 33, 5), (1, 64, 70), (3, 40, 31)])
@pytest.mark.parametrize("backend", ["reference", pytest.param("triton", marks=RUNS_KERNELS)])
def test_each_column_is_rounded_with_what_came_before(G: int, N: int, R: int, backend: str) -> None:
    """Every number is the rounding of what was wanted and of the errors of all later columns, and none is changed."""
    wanted, metric = problem(G, N, R)
    device = DEVICE if backend == "triton" else "cpu"
    given = wanted.clone().to(device)
    if backend == "triton":
        poison()
    found = nearest_plane(given, metric.to(device), backend=backend).cpu()
    assert torch.equal(given.cpu(), wanted)
    for column in reversed(range(N)):
        spill = metric[:, column + 1 :, column] / metric[:, column, column, None]
        error = wanted[:, column + 1 :] - found[:, column + 1 :]
        target = wanted[:, column] + (spill[:, None] @ error)[:, 0]
        is_close_call = (target - target.floor() - 0.5).abs() < 1e-9
        assert torch.equal(torch.where(is_close_call, found[:, column], target.round()), found[:, column])


@pytest.mark.parametrize("backend", ["reference", pytest.param("triton", marks=RUNS_KERNELS)])
def test_halves_go_to_even(backend: str) -> None:
    """As torch rounds, so that backends agree."""
    device = DEVICE if backend == "triton" else "cpu"
    wanted = torch.tensor([[[0.5, 1.5, -0.5, 2.5]]], dtype=torch.float64, device=device)
    metric = torch.ones(1, 1, 1, dtype=torch.float64, device=device)
    assert nearest_plane(wanted, metric, backend=backend).flatten().tolist() == [0.0, 2.0, 0.0, 2.0]


def test_it_is_nearer() -> None:
    """In the metric the result is at most as far off as rounding each number, by a tenth and more here."""
    wanted, metric = problem(2, 48, 16)
    near, plain = (metric.mT @ (wanted - found) for found in (nearest_plane(wanted, metric), wanted.round()))
    assert float(near.norm()) < 0.9 * float(plain.norm())


def test_another_backend_is_refused() -> None:
    """An unknown name raises."""
    with pytest.raises(ValueError, match="unknown backend"):
        nearest_plane(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), backend="fast")
