"""Documents of the zoo that are no import: each beside somebody else's package of what it writes down."""

from __future__ import annotations

import importlib
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
    x = tokens() % ours.plan.vocab
    weights = {path: weight.detach().clone().requires_grad_() for path, weight in ours.named_parameters()}
    theirs, mine = BY_HAND[name].logits(x, weights), ours(x)
    scale = theirs.detach().abs().max()
    with torch.no_grad():
        steps = float((stepwise(ours, x) - theirs).abs().max() / scale)
    cotangent = torch.randn(mine.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    wanted = torch.autograd.grad((theirs * cotangent).sum(), list(weights.values()))
    found = torch.autograd.grad((mine * cotangent).sum(), list(ours.parameters()))
    gradients = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=True))
    return Parity(float((mine - theirs).detach().abs().max() / scale), steps, gradients)


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


BY_HAND = {
    "retnet": ByHand(retnet, "torchscale.component.multiscale_retention", {}),
    "rwkv7": ByHand(rwkv7, "rwkv.model", {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "0"}),
}
"""By the names of documents."""
