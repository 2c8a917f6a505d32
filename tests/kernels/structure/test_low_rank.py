"""Batched factors of low rank against the exact singular value decomposition."""

import pytest
import torch

from evo.kernels.structure import low_rank_factors
from evo.kernels.structure.low_rank import stacked_eigenvectors

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SPECTRA = {
    "1/i": lambda i: 1.0 / i,
    "slow": lambda i: i**-0.5,
    "exponential": lambda i: torch.exp(-i / 10.0),
    "1/i^3": lambda i: i**-3.0,
    "steep": lambda i: 10.0**-i,
    "flat": torch.ones_like,
}


@pytest.fixture(params=DEVICES)
def device(request):
    """The CPU, and a GPU where there is one."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return request.param


def with_spectrum(spectrum, batch, M, N, dtype=torch.float32):
    """Matrices with given singular values between random bases."""
    stream = torch.Generator().manual_seed(0)
    bases = [torch.randn(batch, size, size, generator=stream, dtype=torch.float64) for size in (M, N)]
    left, right = (torch.linalg.qr(basis).Q[..., : min(M, N)] for basis in bases)
    values = SPECTRA[spectrum](torch.arange(1, min(M, N) + 1, dtype=torch.float64))
    return ((left * values) @ right.mT).to(dtype)


def factors(x, rank, seed=0):
    """With a start drawn from that seed."""
    return low_rank_factors(x, rank, generator=torch.Generator(x.device).manual_seed(seed))


def error(x, left, right):
    """Frobenius norm of what is missing, one a matrix."""
    return (x.double() - left.double() @ right.double().mT).norm(dim=(-2, -1)).cpu()


def best(x, rank):
    """The same of the best approximation."""
    return torch.linalg.svdvals(x.double())[..., rank:].norm(dim=-1).cpu()


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(("M", "N"), [(96, 96), (120, 50), (50, 121)])
def test_errors_are_those_of_the_best_rank(device, spectrum, M, N):
    """Within a hundredth of the truncated decomposition's error, or float32's rounding, for any shape."""
    x = with_spectrum(spectrum, 3, M, N).to(device)
    for rank in (1, 7, 24):
        left, right = factors(x, rank)
        assert (left.shape, right.shape) == ((3, M, rank), (3, N, rank))
        assert (error(x, left, right) <= 1.01 * best(x, rank) + 2e-6 * x.double().norm(dim=(-2, -1)).cpu()).all()


def test_random_matrices(device):
    """Noise, whose singular values fall slowest of all, costs at most a hundredth too."""
    x = torch.randn(4, 200, 200, generator=torch.Generator().manual_seed(0)).to(device)
    for rank in (8, 32):
        assert (error(x, *factors(x, rank)) <= 1.01 * best(x, rank)).all()


def test_factors_are_ordered_and_orthogonal(device):
    """left^T left is the identity, right^T right the squared singular values, falling."""
    x = with_spectrum("exponential", 2, 80, 60).to(device)
    left, right = factors(x, 10)
    eye = torch.eye(10, device=device).expand(2, -1, -1)
    torch.testing.assert_close(left.mT @ left, eye, rtol=0.0, atol=1e-5)
    sizes = right.norm(dim=-2)
    torch.testing.assert_close(sizes, torch.linalg.svdvals(x)[:, :10], rtol=1e-3, atol=0.0)
    cosines = (right / sizes[:, None]).mT @ (right / sizes[:, None])
    torch.testing.assert_close(cosines, eye, rtol=0.0, atol=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("rank", [5, 40, 41, 1000])
@pytest.mark.parametrize(("M", "N"), [(40, 70), (70, 40), (40, 40)])
def test_ranks_that_hold_everything_lose_nothing(device, M, N, rank, dtype, tolerance):
    """Matrices of rank five at rank five, and any matrix at full rank, to rounding; R is never above min(M, N)."""
    full = torch.randn(2, M, N, generator=torch.Generator().manual_seed(0), dtype=dtype).to(device)
    deficient = full[..., :5] @ full[..., :5, :]
    for x in (deficient, full) if rank >= 40 else (deficient,):
        left, right = factors(x, rank)
        assert left.shape[-1] == right.shape[-1] == min(rank, 40)
        assert (error(x, left, right) <= tolerance * x.double().norm(dim=(-2, -1)).cpu()).all()


@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e25])
def test_zeros_and_extreme_scales(device, scale):
    """A zero matrix beside others gives zeros, and scale only scales."""
    x = with_spectrum("1/i", 2, 40, 30).to(device)
    x[1] *= scale
    left, right = factors(x, 4)
    assert left.isfinite().all()
    assert right.isfinite().all()
    assert (error(x, left, right) <= 1.01 * best(x, 4)).all()


def test_stacks_are_factored_one_by_one(device):
    """Leading dims of any number; a NaN stays in its matrix; nothing comes of nothing."""
    x = with_spectrum("1/i", 6, 30, 20).to(device)
    left, right = factors(x.view(2, 3, 30, 20), 4)
    torch.testing.assert_close(left @ right.mT, (lambda a, b: a @ b.mT)(*factors(x, 4)).view(2, 3, 30, 20))
    poisoned = x.clone()
    poisoned[2, 0, 0] = float("nan")
    left, right = factors(poisoned, 4)
    assert [bool((a @ b.T).isfinite().all()) for a, b in zip(left, right, strict=True)] == [i != 2 for i in range(6)]
    left, right = factors(x[:0], 4)
    assert (left.shape, right.shape) == ((0, 30, 4), (0, 20, 4))


def test_the_draw_is_the_generators(device):
    """Same stream, same bytes; another stream, another start."""
    x = torch.randn(2, 60, 60, generator=torch.Generator().manual_seed(0)).to(device)
    assert torch.equal(factors(x, 4, seed=1)[0], factors(x, 4, seed=1)[0])
    assert not torch.equal(factors(x, 4, seed=1)[0], factors(x, 4, seed=2)[0])


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_stacks_have_the_eigenvectors_of_their_matrices(device, spectrum):
    """The stacked solver diagonalises as `eigh` does, largest first, also where eigenvalues vanish or repeat."""
    x = with_spectrum(spectrum, 3, 60, 40, torch.float64).to(device)
    x[2] = 0.0
    gram = x.mT @ x
    turn = stacked_eigenvectors(gram)
    eye = torch.eye(40, dtype=torch.float64, device=device).expand(3, -1, -1)
    torch.testing.assert_close(turn.mT @ turn, eye, rtol=0.0, atol=1e-12)
    expected = torch.diag_embed(torch.linalg.eigvalsh(gram).flip(-1))
    torch.testing.assert_close(turn.mT @ gram @ turn, expected, rtol=0.0, atol=1e-12)


def test_tf32_is_kept_out(device):
    """Where the process allows TF32, the factors are the same bytes, and it is allowed again afterwards."""
    x = with_spectrum("exponential", 2, 96, 96).to(device)
    found = factors(x, 24)
    torch.set_float32_matmul_precision("high")
    try:
        again = factors(x, 24)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize(("shape", "rank"), [((5,), 2), ((5, 5), 0)])
def test_what_is_no_matrix_is_refused(shape, rank):
    """One dim, or no rank."""
    with pytest.raises(ValueError, match="a matrix and a rank of at least 1"):
        factors(torch.zeros(shape), rank)
