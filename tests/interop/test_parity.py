"""Imported models compute and learn what the originals do: tiny ones, every weight and buffer large, in float64."""

from __future__ import annotations

import pytest
import torch
from tiny import parity, twin
from tiny_settings import INNER

from evo.compiler.resolve import resolve
from evo.interop.families import types
from evo.interop.weights import put, take

QUICK = ("gpt2", "llama")


def cases() -> list:
    """Every type, most of them slow."""
    kinds = sorted(types().keys() - INNER.keys())
    return [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


@pytest.fixture(autouse=True)
def _oracle() -> None:
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", cases())
def test_parity(kind: str) -> None:
    """Logits at once and step by step within 1e-4 of the largest, gradients of every weight within 1e-3."""
    far = parity(twin(kind))
    assert far.prefill < 1e-4
    assert far.steps < 1e-4
    assert far.gradients < 1e-3


@pytest.mark.filterwarnings("ignore")
def test_weights_go_back() -> None:
    """What is taken from a checkpoint is put back where it lay."""
    pair = twin("gpt2")
    theirs = {name: tensor for name, tensor in pair.theirs.state_dict().items() if name != "lm_head.weight"}
    plan = resolve(pair.document.organism)
    ours = take(plan, pair.model.weights, theirs)
    back = put(pair.model.weights, ours, {name: torch.zeros_like(tensor) for name, tensor in theirs.items()})
    for name, tensor in theirs.items():
        torch.testing.assert_close(back[name].double(), tensor.double(), rtol=1e-6, atol=1e-6)
