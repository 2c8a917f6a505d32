"""Gains of channels: folded into a map they are what they are on its inputs, and learn the same."""

import torch
from torch import Tensor

from evo.kernels.fused.channel_gains import folded, scaled_channels, unfolded


def numbers() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, C), W (O, C), g (P,) with a gain of 0, and a gradient of the output (N, O), in float64."""
    generator = torch.Generator().manual_seed(0)
    x, weight, gains, dy = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((7, 12), (5, 12), (4,), (7, 5))
    )
    gains[1] = 0.0
    return x.requires_grad_(), weight.requires_grad_(), gains.requires_grad_(), dy


def test_folded_gains_are_gains_of_inputs() -> None:
    """(x diag(g)) W^T = x (W diag(g))^T: values, and the gradients of all three by that of the folded map."""
    x, weight, gains, dy = numbers()
    y = scaled_channels(x, gains) @ weight.mT
    wanted = torch.autograd.grad(y, (x, weight, gains), dy)
    with torch.no_grad():
        joint = folded(weight, gains, torch.float64)
        found = (dy @ joint, *unfolded(dy.mT @ x, weight, gains))
    torch.testing.assert_close(x @ joint.mT, y, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


def test_a_gain_of_zero_learns_nothing() -> None:
    """Neither it nor the columns of its channels, though they would change the loss."""
    x, weight, gains, dy = numbers()
    with torch.no_grad():
        of_weight, of_gains = unfolded(dy.mT @ x, weight, gains)
    assert (of_gains != 0.0).tolist() == [True, False, True, True]
    assert (of_weight.unflatten(1, (4, 3)) != 0.0).any((0, 2)).tolist() == [True, False, True, True]


def test_a_folded_map_is_rounded_once() -> None:
    """The product is taken in the weight's precision, and rounded to the copy's."""
    _, weight, gains, _ = (tensor.detach().float() for tensor in numbers())
    exact = (weight.unflatten(1, (4, 3)) * gains[:, None]).flatten(1)
    assert torch.equal(folded(weight, gains, torch.bfloat16), exact.bfloat16())
