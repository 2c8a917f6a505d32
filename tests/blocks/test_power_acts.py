"""Activations with learned coefficients against powers written out: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, inputs, plan
from torch import Tensor

from evo.blocks.flow import Flow


def normed(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """PolyNorm, as its authors' code has it (2411.03884)."""
    rooted = [x**i / (x ** (2 * i)).mean(-1, keepdim=True).add(1e-6).sqrt() for i in (1, 2, 3)]
    return sum((a * power for a, power in zip(w["powers"], rooted, strict=True)), w["offset"])


def rectified(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """PolyReLU (2411.03884, eq. 2)."""
    return sum((a * F.relu(x) ** i for i, a in enumerate(w["powers"], start=1)), w["offset"])


def rational(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The safe form of a Pade unit (1907.06732, eq. 4)."""
    above = sum((a * x**i for i, a in enumerate(w["above"], start=1)), w["offset"])
    below = sum((b * x**i for i, b in enumerate(w["below"], start=1)), torch.zeros_like(x))
    return above / (1 + below.abs())


@pytest.mark.parametrize(
    ("act", "theirs"),
    [
        ({"kind": "polynomial"}, normed),
        ({"kind": "polynomial", "of": "relu", "order": 4}, rectified),
        ({"kind": "rational"}, rational),
        ({"kind": "rational", "numerator": 2, "denominator": 3}, rational),
    ],
)
@pytest.mark.parametrize("kind", ["dense", "gated"])
def test_an_activation_is_its_sum_of_powers(
    act: dict[str, Any], theirs: Callable[[Mapping[str, Tensor], Tensor], Tensor], kind: str
):
    """In a feed-forward, every weight large."""
    data = {"kind": kind, "hidden": 24, "act": act}
    block = built(block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": data}]}}]), "0"))
    w, x = dict(block.named_parameters()), inputs()
    with torch.no_grad():
        for seed, weight in enumerate(w.values()):
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed), dtype=weight.dtype)
            weight.copy_(noise if weight.ndim == 1 else noise * 0.3)
    own = {name.removeprefix("act."): weight for name, weight in w.items() if name.startswith("act.")}
    hidden = theirs(own, x @ w["up" if kind == "dense" else "gate"].T)
    expected = (hidden if kind == "dense" else hidden * (x @ w["up"].T)) @ w["down"].T
    y = block(x, Flow())
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    found, wanted = (torch.autograd.grad(z.square().sum(), list(w.values())) for z in (y, expected))
    for name, one, other in zip(w, found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=name)
