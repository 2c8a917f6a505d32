"""Weights go back to where they lay in a checkpoint."""

from __future__ import annotations

import pytest
import torch

from evo.base.diagnostics import DiagnosticError
from evo.interop.parts import Source
from evo.interop.weights import put


def test_two_weights_of_one_tensor_go_back_while_they_are_equal() -> None:
    """Weights that the other model has once, and that were trained apart, have no way back."""
    sources, theirs = {"a": Source("scalar"), "b": Source("scalar")}, {"scalar": torch.zeros(1)}
    same = {"a": torch.ones(1), "b": torch.ones(1)}
    assert put(sources, same, theirs)["scalar"].item() == 1.0
    with pytest.raises(DiagnosticError, match="trained apart"):
        put(sources, {**same, "b": torch.zeros(1)}, theirs)
