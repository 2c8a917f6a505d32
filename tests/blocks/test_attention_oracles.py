"""Attention blocks against transformers' modules: values, gradients of the input and of every weight."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from block_variants import block_of, built, plan, stage

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.position.scaling import LinearScaling, NtkScaling, YarnScaling
from evo.blocks.position.spec import AlibiSpec, RopeSpec
from evo.dsl.spec import Scope

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
WIDTH, HEADS, GROUPS, DIM, TIME = 32, 4, 2, 12, 40
COMMON = {
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "head_dim": DIM,
    "max_position_embeddings": 64,
    "num_hidden_layers": 1,
    "attn_implementation": "eager",
}
DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}
OURS = {"kind": "attention", "heads": HEADS, "kv_heads": GROUPS, "head_dim": DIM}


def their(family: str, name: str, rope: dict[str, Any] = DEFAULT, **settings: Any) -> tuple[torch.nn.Module, Any]:
    """A family's attention with normal weights, and its rotary embedding."""
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    config_module = importlib.import_module(f"transformers.models.{family}.configuration_{family}")
    config = getattr(config_module, f"{name}Config")(**{**COMMON, "rope_parameters": rope, **settings})
    attention = getattr(module, f"{name}Attention")(config, layer_idx=0).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return attention, getattr(module, f"{name}RotaryEmbedding")(config)


def our(mixer: dict[str, Any], position: dict[str, Any] | None = None) -> Block:
    """The same block in this language."""
    settings = {"width": WIDTH, "context": 64, "position": position or {"kind": "rope"}}
    return built(block_of(plan([stage("s", mixer)], **settings), "mixer")).float()


NAMES = {
    "q": "q_proj.weight",
    "k": "k_proj.weight",
    "v": "v_proj.weight",
    "o": "o_proj.weight",
    "q_bias": "q_proj.bias",
    "k_bias": "k_proj.bias",
    "v_bias": "v_proj.bias",
    "o_bias": "o_proj.bias",
    "q_norm.gain": "q_norm.weight",
    "k_norm.gain": "k_norm.weight",
    "sink_logit": "sinks",
}


def mask(window: int | None) -> torch.Tensor:
    """(1, 1, T, T): zero where a query sees, minus infinity elsewhere."""
    t, s = torch.arange(TIME)[:, None], torch.arange(TIME)[None]
    seen = (s <= t) & (s > t - (window or TIME))
    return torch.zeros(TIME, TIME).masked_fill(~seen, float("-inf"))[None, None]


def compare(ours: Block, theirs: torch.nn.Module, rotary: Any, window: int | None = None) -> None:
    """Same weights, same input: same output, same gradients."""
    weights = dict(theirs.named_parameters())
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(weights[NAMES[name]])
    assert len(weights) == len(dict(ours.named_parameters()))
    x = torch.randn(2, TIME, WIDTH, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = x.detach().clone().requires_grad_()
    cotangent = torch.randn(2, TIME, WIDTH, generator=torch.Generator().manual_seed(1))
    mine = ours(x, Flow())
    (mine * cotangent).sum().backward()
    angles = rotary(y, torch.arange(TIME)[None])
    wanted = theirs(y, position_embeddings=angles, attention_mask=mask(window))[0]
    (wanted * cotangent).sum().backward()
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-3)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[NAMES[name]].grad, rtol=1e-3, atol=2e-3, msg=name)


def test_llama():
    """Grouped heads and rotation, without biases."""
    compare(our(OURS), *their("llama", "Llama", attention_bias=False))


def test_llama_with_biases_and_another_theta():
    """Biases on all projections, theta 500."""
    position = {"kind": "rope", "theta": 500.0}
    compare(
        our({**OURS, "bias": True}, position),
        *their("llama", "Llama", {**DEFAULT, "rope_theta": 500.0}, attention_bias=True),
    )


def test_llama_linear_scaling():
    """Positions divided by the factor."""
    position = {"kind": "rope", "scaling": {"kind": "linear", "factor": 3.0}}
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0}
    compare(our(OURS, position), *their("llama", "Llama", rope, attention_bias=False))


def test_llama_yarn():
    """YaRN's frequencies and its amplitude, in the whole block."""
    scaling = {"kind": "yarn", "factor": 4.0, "original": 16}
    position = {"kind": "rope", "theta": 500.0, "scaling": scaling}
    compare(our(OURS, position), *their("llama", "Llama", YARN, attention_bias=False))


def test_qwen3_qk_norm():
    """RMS norm of each head's q and k before the rotation."""
    compare(our({**OURS, "qk_norm": "rms"}), *their("qwen3", "Qwen3", attention_bias=False, rms_norm_eps=1e-6))


def test_gemma2_soft_cap_and_window():
    """Capped scores in a sliding window."""
    mixer = {**OURS, "soft_cap": 5.0, "stencil": {"kind": "window", "size": 7}}
    settings = {"attn_logit_softcapping": 5.0, "query_pre_attn_scalar": DIM, "attention_bias": False}
    compare(our(mixer), *their("gemma2", "Gemma2", sliding_window=7, **settings), window=7)


def test_gpt_oss_sinks_and_window():
    """A learned logit per head joins the softmax, in a sliding window, with biases."""
    mixer = {**OURS, "sink_logit": True, "bias": True, "stencil": {"kind": "window", "size": 9}}
    compare(our(mixer), *their("gpt_oss", "GptOss", sliding_window=9, attention_bias=True), window=9)


def test_stablelm_partial_rotation():
    """Only the first dimensions of a head turn."""
    settings = {"partial_rotary_factor": 0.5, "use_qkv_bias": False, "qk_layernorm": False, "attention_dropout": 0.0}
    settings["rope_parameters"] = {**DEFAULT, "partial_rotary_factor": 0.5}
    attention, rotary = their("stablelm", "StableLm", head_dim=WIDTH // HEADS, **settings)
    ours = our({"kind": "attention", "heads": HEADS, "kv_heads": GROUPS}, {"kind": "rope", "dims": 4})
    compare(ours, attention, rotary)


def functions(kind: str, **parameters: Any) -> tuple[torch.Tensor, float]:
    """Frequencies and amplitude of `ROPE_INIT_FUNCTIONS[kind]` for heads of 64."""
    transformers = pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    utils = importlib.import_module("transformers.modeling_rope_utils")
    length = parameters.pop("seq_len", None)
    rope = {"rope_type": kind, "rope_theta": 10000.0, **parameters}
    config = transformers.LlamaConfig(
        **{**COMMON, "head_dim": 64, "max_position_embeddings": 1024, "rope_parameters": rope}
    )
    return utils.ROPE_INIT_FUNCTIONS[kind](config, device="cpu", seq_len=length)


SCOPE = Scope(64, 4096, 1, RopeSpec())


@pytest.mark.parametrize("factor", [1.5, 4.0, 32.0])
@pytest.mark.parametrize("original", [512, 4096])
@pytest.mark.parametrize(("fast", "slow"), [(32.0, 1.0), (16.0, 2.0)])
def test_yarn_frequencies(factor: float, original: int, fast: float, slow: float):
    """YaRN's ramp over pairs, for several contexts, factors and bounds."""
    betas = {"beta_fast": fast, "beta_slow": slow}
    theirs = functions("yarn", factor=factor, original_max_position_embeddings=original, **betas)
    same(RopeSpec(scaling=YarnScaling(factor=factor, original=original, **betas)), theirs)


def test_linear_frequencies():
    """Position interpolation."""
    same(RopeSpec(scaling=LinearScaling(factor=4.0)), functions("linear", factor=4.0))


def test_ntk_frequencies():
    """NTK-aware scaling by 2 is the dynamic kind at one and a half times its context with factor 2."""
    theirs = functions("dynamic", factor=2.0, original_max_position_embeddings=1024, seq_len=1536)
    same(RopeSpec(scaling=NtkScaling(factor=2.0)), theirs)


def same(ours: RopeSpec, theirs: tuple[torch.Tensor, float]) -> None:
    frequencies, amplitude = ours.frequencies(64, 4096)
    torch.testing.assert_close(torch.tensor(frequencies), theirs[0], rtol=2e-6, atol=0)
    assert amplitude == pytest.approx(theirs[1])


@pytest.mark.parametrize("heads", [2, 8, 16])
def test_alibi_slopes(heads: int):
    """Slopes of the paper, as BLOOM has them, for powers of two."""
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom", reason="transformers is not installed")
    theirs = bloom.build_alibi_tensor(torch.ones(1, 5), heads, torch.float32).view(heads, 5)
    ours = torch.tensor(AlibiSpec().for_heads(SCOPE, heads, 8).slopes)
    torch.testing.assert_close(ours[:, None] * torch.arange(5), theirs)
