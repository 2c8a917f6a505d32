"""Documents of the zoo that are no import: each beside somebody else's package of what it writes down."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from tiny import Parity, stepwise, tokens
from torch import Tensor

from evo.compiler.build import build
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import load
from evo.interop.config import Config
from evo.interop.families import read

ZOO = Path(__file__).parents[2] / "examples" / "zoo"
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class ByHand:
    """A document, and the logits of its publication's package, (B, T) int64 -> (B, T, V), from its weights by path.

    module: what is imported of the package, with `environment` set.
    """

    theirs: Callable[[Any, Tensor, Weights], Tensor]
    module: str
    environment: Mapping[str, str]

    def logits(self, tokens_BT: Tensor, weights: Weights) -> Tensor:
        """Raises ImportError where the package is not installed."""
        return self.theirs(imported(self.module, self.environment), tokens_BT, weights)


def imported(module: str, environment: Mapping[str, str]) -> Any:
    """A module, which reads the environment once; the switches of torch that it throws are put back."""
    switches = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    os.environ.update(environment)
    found = importlib.import_module(module)
    for name in environment:
        del os.environ[name]
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = switches
    return found


def parity(name: str) -> Parity:
    """How far both sides of a document are apart, with every weight large, in float64."""
    ours = built(name)
    x = tokens(LENGTH.get(name, 25)) % ours.plan.vocab
    weights = {path: weight.detach().clone().requires_grad_() for path, weight in ours.named_parameters()}
    theirs, mine = BY_HAND[name].logits(x, weights), ours(x)
    scale = theirs.detach().abs().max()
    with torch.no_grad():
        steps = float((stepwise(ours, x) - theirs).abs().max() / scale)
    cotangent = torch.randn(mine.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    wanted = torch.autograd.grad((theirs * cotangent).sum(), list(weights.values()), allow_unused=True)
    found = torch.autograd.grad((mine * cotangent).sum(), list(ours.parameters()), allow_unused=True)
    gradients = max(_apart(a, b) for a, b in zip(found, wanted, strict=True))
    return Parity(float((mine - theirs).detach().abs().max() / scale), steps, gradients)


def _apart(found: Tensor | None, wanted: Tensor | None) -> float:
    """How far two gradients are apart; what no logit depends on has none on either side."""
    if found is None or wanted is None:
        return 0.0 if found is wanted else float("inf")
    return float((found - wanted).abs().max() / wanted.abs().max())


def lines(name: str) -> int:
    """Lines of the document, without its comments."""
    text = (ZOO / f"{name}.yaml").read_text(encoding="utf-8")
    return sum(not line.startswith("#") for line in text.splitlines())


def built(name: str) -> Organism:
    """The organism of a document, with large weights."""
    organism = build(resolve(load(ZOO / f"{name}.yaml").document.organism), 0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for path, weight in organism.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            is_map = weight.ndim > 1 and path != "embedding.weight"
            weight.copy_(1.5 * noise / weight.shape[-1] ** 0.5 if is_map else 0.5 * noise + path.endswith("gain"))
            weight.mul_(LARGER.get(path, 1.0))
    return organism


def retnet(torchscale: Any, tokens_BT: Tensor, weights: Weights) -> Tensor:
    """torchscale's retention in the layer that its RetNet puts it into, which takes two further packages to import."""
    x, (heads, pairs) = 8.0 * weights["embedding.weight"][tokens_BT], (4, 8)
    told = SimpleNamespace(layernorm_eps=1e-6, multiway=False)
    retention = torchscale.MultiScaleRetention(told, 64, 128, heads).double()
    angles_K = (10000.0 ** -torch.linspace(0, 1, pairs, dtype=torch.float64)).repeat_interleave(2)
    times_T = torch.arange(tokens_BT.shape[1], dtype=torch.float64)
    turns_TK, apart_TS = times_T[:, None] * angles_K, times_T[:, None] - times_T
    decay_H11 = (1 - 2.0 ** (-5 - torch.arange(heads, dtype=torch.float64)))[:, None, None]
    mask_HTS = (decay_H11**apart_TS).tril()
    positions = (turns_TK.sin(), turns_TK.cos()), mask_HTS / mask_HTS.sum(-1, keepdim=True).sqrt()
    named = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "g_proj": "gate", "out_proj": "o"}
    for at in (f"stages.body.{index}." for index in range(3)):
        held = {f"{theirs}.weight": weights[f"{at}mixer.{ours}"] for theirs, ours in named.items()}
        inner = F.rms_norm(x, (64,), weights[f"{at}mixer_norm.gain"], 1e-6)
        x = x + torch.func.functional_call(retention, held, (inner, positions))
        inner = F.rms_norm(x, (64,), weights[f"{at}ffn_norm.gain"], 1e-6)
        gate, up, down = (weights[f"{at}ffn.{part}"] for part in ("gate", "up", "down"))
        x = x + (F.gelu(inner @ gate.T) * (inner @ up.T)) @ down.T
    return F.rms_norm(x, (64,), weights["final_norm.gain"], 1e-6) @ weights["readout.weight"].T


def rwkv7(rwkv: Any, tokens_BT: Tensor, weights: Weights) -> Tensor:
    """The time and channel mixing of the package rwkv, token by token: its form for sequences writes in place."""
    return torch.stack([_rwkv7_row(rwkv, row_T, weights) for row_T in tokens_BT])


RWKV7 = (
    *(f"{name}_mix" for name in "rwkvag"), "decay_base", "decay_down", "decay_up", "rate_base", "rate_down", "rate_up",
    "share_base", "share_down", "share_up", "gate_down", "gate_up", "removal", "write", "bonus", "r", "k", "v", "o",
    "norm_gain", "norm_bias",
)  # fmt: skip
"""Our names of what their time mixing takes, in their order."""


def _rwkv7_row(rwkv: Any, tokens_T: Tensor, weights: Weights) -> Tensor:
    def normed(x: Tensor, at: str) -> Tensor:
        return F.layer_norm(x, (64,), weights[f"{at}.gain"], weights[f"{at}.bias"], 1e-5)

    def turned(name: str) -> Tensor | None:
        weight = weights.get(name)
        if weight is None or weight.ndim < 2:
            return weight
        return weight.flatten() if name.endswith("bonus") else weight.T

    paths = ["stages.first.0", "stages.rest.0", "stages.rest.1"]
    zero = torch.zeros(64, dtype=torch.float64)
    states = [(zero, torch.zeros(4, 16, 16), zero)] * len(paths)
    logits = []
    for x in normed(weights["embedding.weight"][tokens_T], "embedding.norm"):
        first = None
        for layer, at in enumerate(paths):
            before, memory, seen = states[layer]
            held = [turned(f"{at}.mixer.{name}") for name in RWKV7]
            inner = normed(x, f"{at}.mixer_norm")
            y, before, memory, first = rwkv.RWKV_x070_TMix_one(layer, 4, 16, inner, before, first, memory, *held)
            x = x + y
            k, v = (weights[f"{at}.ffn.{name}"].T for name in "kv")
            mix = 1 - weights[f"{at}.ffn.k_mix"]  # ours is the share of the token itself, as in RWKV-4
            y, seen = rwkv.RWKV_x070_CMix_one(normed(x, f"{at}.ffn_norm"), seen, mix, k, v)
            x, states[layer] = x + y, (before, memory, seen)
        logits.append(normed(x, "final_norm") @ weights["readout.weight"].T)
    return torch.stack(logits)


def titans(titans_pytorch: Any, tokens_BT: Tensor, weights: Weights) -> Tensor:
    """titans-pytorch's memory as context: one residual stream, and without what the paper has not.

    Axial positions and the share of the first layer's values are turned off by their weights.
    """
    theirs = titans_pytorch.MemoryAsContextTransformer(
        num_tokens=256,
        dim=64,
        depth=2,
        segment_len=32,
        num_longterm_mem_tokens=4,
        num_persist_mem_tokens=4,
        neural_memory_segment_len=1,
        neural_memory_batch_size=36,
        dim_head=16,
        heads=4,
        num_residual_streams=1,
        neural_memory_model=titans_pytorch.MemoryMLP(16, 2, expansion_factor=2.0),
        neural_memory_kwargs={
            "dim_head": 16,
            "heads": 4,
            "default_step_transform_max_lr": 0.01,
            "activation": torch.nn.SiLU(),
            "mem_model_norm_add_residual": False,
        },
    ).double()
    for module in theirs.modules():
        if isinstance(module, torch.nn.RMSNorm):
            module.eps = 1e-6
    held = {name: torch.zeros_like(weight) for name, weight in theirs.named_parameters() if "axial_pos_emb" in name}
    held |= {"token_emb.weight": weights["embedding.weight"], "longterm_mems": weights["stages.body.learned"]}
    held |= {"norm.weight": weights["final_norm.gain"], "to_logits.weight": weights["readout.weight"]}
    for layer in range(2):
        turns = 10000.0 ** -(torch.arange(0, 16, 2, dtype=torch.float64) / 16)  # theirs in float32
        held |= {f"layers.{layer}.5.rotary_emb.freqs": turns}
        held |= _titans_layer(f"layers.{layer}.", weights, f"stages.body.of_layers.{layer}.")
        for name in ("weight", "bias"):
            shape = (4, 64) if name == "weight" else (4,)
            off = torch.full(shape, -1e9 if name == "bias" else 0.0, dtype=torch.float64)
            held |= {f"layers.{layer}.5.to_learned_v_mix.0.{name}": off} if layer else {}
    assert {name for name, _ in theirs.named_parameters()} == held.keys()
    return torch.func.functional_call(theirs, held, (tokens_BT,))


def _titans_layer(to: str, weights: Weights, at: str) -> dict[str, Tensor]:
    """A layer's neural memory, attention and feed-forward under their names."""
    named = {
        "4.retrieve_norm": "0_in_norm.gain",
        "4.store_norm": "0_in_norm.gain",
        "4.combine_heads": "0.o",
        "4.retrieve_gate.0": "0.gate",
        "4.to_queries.0": "0.q",
        "4.to_keys.0": "0.k",
        "4.to_values.0": "0.v",
        "4.to_adaptive_step.0": "0.step",
        "4.to_momentum.0": "0.keep",
        "4.to_decay_factor.0": "0.forget",
        "5.norm": "1_in_norm.gain",
        "5.to_out": "1.o",
        "6.0": "2_in_norm.gain",
        "6.3": "2.down",
    }
    held = {f"{to}{theirs}.weight": weights[f"{at}{ours}"] for theirs, ours in named.items()}
    for theirs in ("4.to_adaptive_step.0", "4.to_momentum.0", "4.to_decay_factor.0", "6.3"):
        held[f"{to}{theirs}.bias"] = weights[f"{at}{named[theirs]}_bias"]
    for index in range(2):
        held[f"{to}4.memory_model_parameters.{index}"] = weights[f"{at}0.memory_{index}"].mT
        held[f"{to}4.memory_model.weights.{index}"] = weights[f"{at}0.memory_{index}"][0].detach()  # read by nobody
    held[f"{to}5.to_qkv.weight"] = torch.cat([weights[f"{at}1.{name}"] for name in "qkv"])
    persistent = [weights[f"{at}1.persistent_{name}"].unflatten(-1, (4, 16)).transpose(0, 1) for name in "kv"]
    held[f"{to}5.persistent_memory"] = torch.stack(persistent)
    for name in ("weight", "bias"):
        parts = [weights[f"{at}2.{part}{'_bias' if name == 'bias' else ''}"] for part in ("up", "gate")]
        held[f"{to}6.1.{name}"] = torch.cat(parts)
    return held


def blt(transformers: Any, tokens_BT: Tensor, weights: Weights) -> Tensor:
    """transformers' BLT, whose import says what each weight is called there."""
    part = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 168, "rms_norm_eps": 1e-6}
    settings = {
        "vocab_size": 256,
        "encoder_hash_byte_group_vocab": 4096,
        "local_attention_window_len": 64,
        "use_cache": False,
        "encoder_config": {**part, "num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size_global": 128},
        "decoder_config": {**part, "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size_global": 128},
        "patcher_config": {**part, "num_hidden_layers": 2, "num_attention_heads": 4, "sliding_window": 64},
        "global_config": {
            "hidden_size": 128, "intermediate_size": 344, "rms_norm_eps": 1e-6, "num_hidden_layers": 3,
            "num_attention_heads": 8,
        },
    }  # fmt: skip
    turns = {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}
    parts = {key: {**said, **turns} for key, said in settings.items() if isinstance(said, dict)}
    config = transformers.BltConfig(**{**settings, **parts}, attn_implementation="sdpa")
    sources = read(Config(json.loads(config.to_json_string(use_diff=False)))).weights
    assert sources.keys() == weights.keys()
    theirs = transformers.BltForCausalLM(config).double().eval()
    held = {sources[path].name: weight for path, weight in weights.items()}
    return torch.func.functional_call(theirs, held, (tokens_BT,)).logits


BY_HAND = {
    "blt": ByHand(blt, "transformers", {}),
    "retnet": ByHand(retnet, "torchscale.component.multiscale_retention", {}),
    "rwkv7": ByHand(rwkv7, "rwkv.model", {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "0"}),
    "titans": ByHand(titans, "titans_pytorch", {}),
}
"""By the names of documents."""
LARGER = {"stages.patches.patcher.readout": 4.0}
"""What some weights are multiplied by: a small model that is sure of some bytes, and not of others."""
LENGTH = {"titans": 75}
"""Tokens where 25 are not enough: two whole segments, and more."""
