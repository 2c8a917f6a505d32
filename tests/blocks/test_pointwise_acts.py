"""Activations of one value against those of transformers and torch, in a feed-forward: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from block_variants import block_of, built, inputs, plan
from torch import Tensor, nn

from evo.blocks.flow import Flow

Function = Callable[[Tensor], Tensor]
OF_TORCH: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "hard_swish": nn.Hardswish,
    "hard_sigmoid": nn.Hardsigmoid,
    "relu6": nn.ReLU6,
    "soft_sign": nn.Softsign,
}
OF_TRANSFORMERS = {"gelu_10": "gelu_10", "laplace": "laplace", "sqrt_softplus": "sqrtsoftplus", "mish": "mish"}


def compare(act: dict[str, Any], theirs: Callable[[Mapping[str, Tensor], Tensor], Tensor]) -> None:
    """In both kinds of feed-forward, inputs of the activation up to some tens."""
    for kind in ("dense", "gated"):
        data = {"kind": kind, "hidden": 24, "act": act}
        block = built(block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": data}]}}]), "0"))
        w, x = dict(block.named_parameters()), inputs() * 4.0
        with torch.no_grad():
            for seed, weight in enumerate(w.values()):
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
        hidden = theirs(w, x @ w["up" if kind == "dense" else "gate"].T)
        expected = (hidden if kind == "dense" else hidden * (x @ w["up"].T)) @ w["down"].T
        y = block(x, Flow())
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
        cotangent = inputs(seed=5)
        found, wanted = (torch.autograd.grad((z * cotangent).sum(), list(w.values())) for z in (y, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", OF_TORCH)
def test_functions_are_those_of_torch(name: str):
    """By the module of that name."""
    function = OF_TORCH[name]()
    compare({"kind": "pointwise", "of": name}, lambda _, x: function(x))


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_functions_are_those_of_transformers(name: str):
    """By the class that a configuration names."""
    found = pytest.importorskip("transformers.activations", reason="the oracle transformers is not installed").ACT2FN
    compare({"kind": "pointwise", "of": name}, lambda _, x: found[OF_TRANSFORMERS[name]](x))


def test_sine():
    """sin(x)."""
    compare({"kind": "pointwise", "of": "sine"}, lambda _, x: (torch.exp(1j * x)).imag)


def test_slopes_below_zero():
    """LeakyReLU, and PReLU with its learned slope."""
    compare({"kind": "leaky_relu", "slope": 0.2}, lambda _, x: nn.functional.leaky_relu(x, 0.2))
    compare({"kind": "leaky_relu", "learned": True}, lambda w, x: nn.functional.prelu(x, w["act.below"]))


def test_swish_has_a_learned_slope():
    """x / (1 + e^(-b x)) (1710.05941, section 4)."""
    compare({"kind": "learned_silu", "slope": 0.5}, lambda w, x: x / (1 + (-w["act.slope"] * x).exp()))
