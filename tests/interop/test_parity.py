"""Imported models compute and learn what the originals do: tiny ones, every weight and buffer large, in float64."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny
import torch
from tiny import parity, twin
from tiny_settings import BLT, INNER, OWN

from evo.base.diagnostics import DiagnosticError
from evo.blocks.stages.dynamic_patches.spec import DynamicPatchesSpec
from evo.compiler.resolve import resolve
from evo.interop.config import Config
from evo.interop.families import read, types
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
@pytest.mark.parametrize("act", ["mish", "leaky_relu", "laplace", "hardswish", "gelu_accurate", "linear"])
def test_parity_of_other_activations(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration may name any that transformers has, but PReLU, whose slope is a weight."""
    monkeypatch.setitem(OWN, "llama", {**OWN.get("llama", {}), "hidden_act": act})
    far = parity(twin("llama"))
    assert max(far.prefill, far.steps) < 1e-4
    assert far.gradients < 1e-3


PART = {**BLT, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-4, "hidden_size_global": 64}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_parity_of_patches_as_wide_as_their_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """No map between, other norms, cross attention in the decoder's first layer alone and in all of the encoder's."""
    own = {
        "encoder_config": {**PART, "cross_attn_all_layers": True},
        "decoder_config": {**PART, "rms_norm_eps": 1e-3, "cross_attn_all_layers": False},
        "global_config": {**BLT, "num_hidden_layers": 1, "hidden_size": 64},
    }
    monkeypatch.setitem(OWN, "blt", {**OWN["blt"], **own})
    monkeypatch.setattr(tiny, "unused_tensors", lambda theirs, model: [])  # what only all but the encoder's last made
    pair = twin("blt")
    above = pair.document.organism.stages[2]
    assert isinstance(above, DynamicPatchesSpec)
    assert above.width is None
    far = parity(pair)
    assert max(far.prefill, far.steps) < 1e-4
    assert far.gradients < 1e-3


@pytest.mark.parametrize("said", [{"max_patch_length": 4}, {"patching_mode": "space"}, {"vocab_size": 301}])
def test_patches_that_are_cut_otherwise_are_refused(said: dict[str, Any]) -> None:
    """What the language has no words for is said (EVO652), never passed over."""
    config = json.loads(tiny.tiny_config("blt").to_json_string(use_diff=False))
    with pytest.raises(DiagnosticError, match="EVO652"):
        read(Config({**config, **said}))


@pytest.mark.parametrize("said", [{"attn_type": "bi"}, {"bi_data": True}, {"same_length": True}, {"clamp_len": 9}])
def test_attention_to_later_tokens_is_refused(said: dict[str, Any]) -> None:
    """Of XLNet only the causal form is read (EVO652)."""
    config = json.loads(tiny.tiny_config("xlnet").to_json_string(use_diff=False))
    with pytest.raises(DiagnosticError, match="EVO652"):
        read(Config({**config, **said}))


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
