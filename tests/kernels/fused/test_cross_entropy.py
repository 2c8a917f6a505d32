"""The loss refuses what has no meaning, before any backend sees it."""

import importlib

import pytest
import torch

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
