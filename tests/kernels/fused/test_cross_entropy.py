"""The loss refuses what has no meaning, before any backend sees it."""

import importlib

import pytest
import torch
import torch.nn.functional as F

from evo.kernels.fused import cross_entropy, linear_cross_entropy


@pytest.mark.parametrize("backend", ["auto", "reference", "triton"])
def test_a_soft_cap_of_zero_is_refused(backend: str):
    """The plain form would divide by it, and the kernel would take it for none."""
    x, targets = torch.ones(2, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="soft_cap must not be 0; None is no cap"):
        cross_entropy(x, targets, 0.0, backend=backend)
    with pytest.raises(ValueError, match="soft_cap must not be 0; None is no cap"):
        linear_cross_entropy(x, torch.ones(4, 3), targets, 0.0, backend=backend)


def test_a_soft_cap_of_zero_is_refused_of_many_logits(monkeypatch: pytest.MonkeyPatch):
    """Also where the logits are made in slices, which never passes through `cross_entropy`."""
    monkeypatch.setattr(importlib.import_module("evo.kernels.fused.cross_entropy"), "SLICE", 1)
    with pytest.raises(ValueError, match="soft_cap must not be 0"):
        linear_cross_entropy(torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1]), 0.0, backend="triton")


def weighted(logits, targets, weights):
    """The definition, in float64."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (losses * weights.double()).sum() / weights.double().sum()


def test_a_weighted_mean_counts_each_row_by_its_weight():
    """Value and gradients in float64's, of logits and of what makes them; rows of weight 0 get no gradient."""
    stream = torch.Generator().manual_seed(0)
    h, readout = (torch.randn(shape, generator=stream).requires_grad_() for shape in ((9, 5), (7, 5)))
    targets, weights = torch.arange(9) * 5 % 7, torch.tensor([1.0, 0.0, 0.5, 2.0, 0.0, 1.0, 1.0, 0.25, 0.0])
    found = linear_cross_entropy(h, readout, targets, weights_N=weights)
    wide = [x.detach().double().requires_grad_() for x in (h, readout)]
    expected = weighted(wide[0] @ wide[1].t(), targets, weights)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    gradients = torch.autograd.grad(found, [h, readout])
    for got, want in zip(gradients, torch.autograd.grad(expected, wide), strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    assert torch.equal(gradients[0][weights == 0], torch.zeros(3, 5))


def test_equal_weights_are_a_plain_mean():
    """Whatever their size."""
    logits, targets = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4
    plain = cross_entropy(logits, targets, 2.0)
    torch.testing.assert_close(cross_entropy(logits, targets, 2.0, weights_N=torch.full((6,), 0.3)), plain)


def test_no_weight_at_all_is_no_loss():
    """0, and no gradient."""
    logits = torch.ones(2, 3, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0, 1]), weights_N=torch.zeros(2))
    assert loss.item() == 0.0
    assert torch.equal(torch.autograd.grad(loss, logits)[0], torch.zeros(2, 3))


@pytest.mark.parametrize("backend", ["auto", "reference", "triton"])
def test_weights_of_another_shape_are_refused(backend: str):
    """They would broadcast to another sum."""
    with pytest.raises(ValueError, match=r"weights_N must be \(2,\), found \(1,\)"):
        linear_cross_entropy(
            torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1]), weights_N=torch.ones(1), backend=backend
        )
