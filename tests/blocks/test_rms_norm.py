"""RMS normalisation against torch's, its gradients, and its second gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from evo.blocks.norm.rms import rms_norm


def tensors(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, a gain and a cotangent."""
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
    gain = torch.randn(shape[-1], generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return x, gain, torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("shape", [(5,), (3, 1), (2, 7, 12), (2, 3, 4, 8), (0, 4)])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_equals_torch(shape: tuple[int, ...], eps: float):
    """Values and gradients are those of torch's composite, for any number of dimensions."""
    x, gain, cotangent = tensors(*shape)
    ours, theirs = rms_norm(x, gain, eps), F.rms_norm(x, gain.shape, gain, eps)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    got, wanted = (torch.autograd.grad(y, (x, gain), cotangent) for y in (ours, theirs))
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


def test_strided_inputs_and_gradients():
    """Transposed activations and expanded gradients give the same."""
    x, gain, _ = tensors(6, 4, 10)
    views = rms_norm(x.transpose(0, 1), gain, 1e-6), rms_norm(x, gain, 1e-6).transpose(0, 1)
    got, wanted = (torch.autograd.grad(y.sum(), (x, gain)) for y in views)
    torch.testing.assert_close(views[0], views[1])
    torch.testing.assert_close(got, wanted)


def test_first_and_second_gradients():
    """Both orders pass finite differences."""
    x, gain, _ = tensors(2, 3, 4)
    torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-3), (x, gain))
    torch.autograd.gradgradcheck(lambda x, w: rms_norm(x, w, 1e-3), (x, gain))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision(dtype: torch.dtype):
    """The output has the input's dtype and stays near the float64 one."""
    x, gain, _ = tensors(4, 64, dtype=dtype)
    y = rms_norm(x, gain.double(), 1e-6)
    assert y.dtype == dtype
    exact = F.rms_norm(x.double(), gain.shape, gain.double(), 1e-6)
    torch.testing.assert_close(y.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


def test_gains_of_many_over_one_input():
    """`vmap` over gains alone, as slots of a pool norm their common input: each its own values and gradients."""
    x, gain, cotangent = tensors(2, 3, 4)
    gains = torch.stack([gain, 2 * gain, gain + 1]).detach().requires_grad_()
    ours = torch.func.vmap(lambda w: rms_norm(x, w, 1e-6))(gains)
    theirs = torch.stack([F.rms_norm(x, w.shape, w, 1e-6) for w in gains])
    torch.testing.assert_close(ours, theirs)
    got, wanted = (torch.autograd.grad((y * cotangent).sum(), (x, gains)) for y in (ours, theirs))
    torch.testing.assert_close(got, wanted)
