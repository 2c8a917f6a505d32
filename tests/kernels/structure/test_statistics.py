"""Structure statistics against numpy, and where they are defined by hand."""

import numpy as np
import pytest
import torch

from evo.kernels.structure import coherence, correlation, effective_rank

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
STATISTICS = (correlation, effective_rank, coherence)


@pytest.fixture(params=DEVICES)
def device(request):
    """The CPU, and a GPU where there is one."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return request.param


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("shape", [(3, 40, 7), (5, 11), (1, 2, 2, 60)])
def test_numbers_are_those_of_numpy(device, shape, dtype, tolerance):
    """Stacks of tall and wide matrices, offset and scaled: corrcoef, the entropy of svd, cosines of columns."""
    x = normal(*shape, dtype=dtype) * 3.0 + 1.0
    found = [statistic(x.to(device)).cpu().double() for statistic in STATISTICS]
    for index in np.ndindex(*shape[:-2]):
        matrix = x[index].double().numpy()
        share = np.linalg.svd(matrix, compute_uv=False)
        share /= share.sum()
        cosines = np.abs(np.corrcoef(matrix, rowvar=False))
        unit = matrix / np.linalg.norm(matrix, axis=0)
        cosines = np.abs(unit.T @ unit) - np.eye(shape[-1])
        expected = np.corrcoef(matrix, rowvar=False), np.exp(-(share * np.log(share)).sum()), cosines.max()
        for got, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(got[index].numpy(), wanted, rtol=tolerance * shape[-1], atol=tolerance)


def test_known_matrices(device):
    """Effective rank counts equal directions; coherence is 1 for parallel columns and 0 for orthogonal ones."""
    eye, zeros, ones = torch.eye(6, device=device), torch.zeros(4, 6, device=device), torch.ones(4, 6, device=device)
    ranks = [effective_rank(x).item() for x in (eye, eye[:, :3], ones, zeros, ones[:, :0])]
    assert ranks == pytest.approx([6.0, 3.0, 1.0, 0.0, 0.0], abs=1e-4)
    coherences = [coherence(x).item() for x in (eye, -ones, zeros, ones[:, :1], ones[:0])]
    assert coherences == pytest.approx([0.0, 1.0, 0.0, 0.0, 0.0], abs=1e-6)


def test_features_that_do_not_vary_correlate_with_nothing(device):
    """Constants, also such as float32 cannot hold, give rows of zeros and no NaN."""
    x = normal(1000, 4, dtype=torch.float32).to(device)
    x[:, 1], x[:, 3] = 1000.1, 0.0
    found = correlation(x)
    assert not found[[1, 3]].any()
    assert not found[:, [1, 3]].any()
    torch.testing.assert_close(found.diagonal(), torch.tensor([1.0, 0.0, 1.0, 0.0], device=device))


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_changes_nothing(device, statistic, scale):
    """Not even where squares leave the range of float32."""
    x = normal(30, 5, dtype=torch.float32).to(device)
    torch.testing.assert_close(statistic(x * scale), statistic(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_short_dtypes_are_computed_in_float32(device, statistic):
    """bfloat16 in, float32 out, equal to the float32 statistics of the same numbers."""
    x = normal(2, 30, 5, dtype=torch.bfloat16).to(device)
    assert torch.equal(statistic(x), statistic(x.float()))
    assert statistic(x).dtype == torch.float32
