"""Members of a population as one stacked model: torch.func over a whole organism equals separate runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evo.compiler.build import build
from evo.compiler.organism import Organism
from evo.compiler.plan import Plan

ATTENTION = {"kind": "attention", "heads": 2}
RECURRENCE = {"kind": "recurrence", "heads": 2}
OUTER = {**RECURRENCE, "update": "outer"}
MIXERS: dict[str, Any] = {
    "latent": {"kind": "latent", "heads": 2, "kv_rank": 6, "nope_dim": 4, "rope_dim": 2, "value_dim": 5},
    "attention": ATTENTION,
    "attention, grouped, normed, with a sink": {**ATTENTION, "kv_heads": 1, "qk_norm": "rms", "sink_logit": True},
    "attention in a window, capped, biased": {
        **ATTENTION,
        "stencil": {"kind": "window", "size": 5, "sinks": 1},
        "soft_cap": 5.0,
        "bias": True,
    },
    "attention with ALiBi": {**ATTENTION, "position": {"kind": "alibi"}},
    "attention with Transformer-XL's terms": {**ATTENTION, "position": {"kind": "xl"}},
    "attention with polar positions": {**ATTENTION, "kv_heads": 1, "position": {"kind": "polar"}},
    "attention composing": {**ATTENTION, "mix_scores": {"compose": {"rank": 1}}},
    "attention with a network of scores": {**ATTENTION, "position": {"kind": "alibi"}, "mix_scores": {"network": 4}},
    "attention of tied keys": {**ATTENTION, "values": "tied", "position": {"kind": "alibi"}},
    "attention to nearest tokens": {**ATTENTION, "select": {"kind": "nearest", "size": 4, "top": 2}},
    "latent subtracting": {"kind": "latent", "heads": 4, "kv_heads": 2, "kv_rank": 6, "subtract": True},
    "attention with keys of no token": {**ATTENTION, "persistent": 2},
    "attention with profiles": {**ATTENTION, "position": {"kind": "queried", "extent": 6}},
    "attention to chosen tokens": {**ATTENTION, "select": {"kind": "tokens", "top": 5, "heads": 2, "dim": 4}},
    "attention to chosen blocks": {**ATTENTION, "select": {"kind": "blocks", "size": 3, "top": 3, "dim": 4}},
    "attention to whole blocks": {**ATTENTION, "select": {"kind": "whole_blocks", "size": 3, "top": 2, "dim": 4}},
    "attention beside pooled entries": {
        **ATTENTION,
        "select": {"kind": "pooled", "size": 3, "overlap": True, "index": {"top": 2, "dim": 4}},
    },
    "attention of chosen maps": {**ATTENTION, "head_maps": {"count": 3}},
    "attention of shared heads": {**ATTENTION, "heads": 4, "head_shares": {"top": 2, "shared": 1}},
    "attention of factors": {**ATTENTION, "factors": {"q": 3, "k": 2, "v": 2}},
    "attention that passes over, with contextual positions": {
        **ATTENTION,
        "selective": "each",
        "position": {"kind": "contextual", "most": 4},
    },
    "attention of narrow vectors": {
        **ATTENTION,
        "kv_heads": 1,
        "values": "turned_keys",
        "low_rank": {"q": 6, "o": 4, "groups": 2},
    },
    "attention to means of blocks": {**ATTENTION, "select": {"kind": "compressed", "size": 3, "top": 3, "window": 2}},
    "conditioned": {"conditioned": ATTENTION, "by": "lora", "at": ["input", "v"]},
    "convolution": {"kind": "convolution", "act": "silu"},
    "maps of a form": {"formed": ATTENTION, "blocks": 2, "on": ["q", "o"]},
    "hashed n-grams": {"kind": "engram", "rows": 40, "heads": 2, "dim": 3},
    "gated delta rule": RECURRENCE,
    "delta rule": {**RECURRENCE, "decay": "none"},
    "delta rule with a decay per channel": {**RECURRENCE, "decay": "channel"},
    "retention": {**OUTER, "decay": "head", "feature": "identity", "conv": 0, "position": {"kind": "rope"}},
    "gated linear attention": {**OUTER, "decay": "channel", "conv": 0},
    "hedgehog": {**OUTER, "decay": "none", "feature": "signs", "feature_map": True, "normalizer": "sum", "conv": 0},
    "Mamba-3 of ranks": {**OUTER, "ranks": 2, "normalizer": "none", "write": "trapezoid", "skip": True, "conv": 0},
    "performer": {**OUTER, "decay": "none", "feature": "drawn", "draws": 8, "normalizer": "sum", "conv": 0},
    "attention subtracting": {**ATTENTION, "subtract": True, "position": {"kind": "relative", "furthest": 4}},
    "mega": {"kind": "gated_attention", "dim": 8, "averages": 3, "steps": True, "weigh": "softmax"},
    "dynamic convolution": {"kind": "dynamic_convolution", "heads": 2, "size": 3},
    "linear attention": {**OUTER, "decay": "none", "feature": "elu", "normalizer": "sum"},
    "Mamba-2": {
        **OUTER,
        "key_heads": 1,
        "write": "step",
        "skip": True,
        "conv_bias": True,
        "gate_at": "before",
        "scale": 1.0,
        "normalizer": {"kind": "rms", "groups": 1},
        "feature": "identity",
    },
    "KDA": {**RECURRENCE, "decay": {"kind": "channel", "form": "softplus"}, "gate_rank": 4, "beta_range": 2.0},
    "with a bonus": {**OUTER, "decay": "channel", "bonus": True, "conv": 0},
    "selective scan": {"kind": "selective_scan", "state": 4, "inner_norm": {"kind": "rms"}},
    "rg_lru": {"kind": "rg_lru", "heads": 2},
    "sLSTM": {"kind": "rnn", "heads": 2, "input": "exponential", "conv": 2},
    "GRU": {"kind": "rnn", "heads": 2, "cell": "gru"},
    "GRU, reset before": {"kind": "rnn", "heads": 2, "cell": "gru", "reset": "before"},
    "gated slots": {"kind": "gated_slots", "heads": 2, "slots": 4, "write": "softmax"},
    "path attention": {"kind": "path_attention", "heads": 2, "forget": True},
    "moving averages": {"kind": "ema", "state": 3},
    "state space": {"kind": "state_space", "state": 3, "dense": True},
    "levels": {**RECURRENCE, "levels": True, "erase": "head", "turns": True},
    # Of three or four steps of conjugate gradients in heads of 8 the last divide rounding by rounding.
    "MesaNet": {**OUTER, "write": "share", "solve": 2},
    "TTT": {"kind": "memory", "heads": 2, "chunk": 6, "norm": True, "bias": True, "forget": False},
    "gated scan": {"kind": "gated_scan", "input": "share", "gate": "sigmoid"},
    "memory": {"kind": "memory", "heads": 2, "depth": 2, "chunk": 6},
    "link slots": {"kind": "link_slots", "heads": 2, "slots": 5, "top": 2},
    "wkv": {"kind": "wkv"},
    "wkv6": {"kind": "wkv6", "heads": 2},
    "wkv7": {"kind": "wkv7", "heads": 2},
    "mlstm": {"kind": "mlstm", "heads": 2},
    "spatial": {"kind": "spatial", "heads": 2},
    "attention of learned spans": {**ATTENTION, "span": {"by": "token", "soft": 4}},
    "compressive": {"kind": "compressive", "heads": 2, "segment": 6, "update": "delta"},
    "attention free": {"kind": "spatial", "weigh": "softmax", "keys": True, "window": 5},
    "hyena": {"kind": "hyena", "hidden": 8},
    "pool": {"kind": "pool", "slots": 4, "alive": 2},
    "pool over stacked weights": {"kind": "pool", "slots": 2, "of": {"kind": "convolution"}},
    "chain": {"chain": [{"kind": "convolution", "maps": False, "residual": True}, ATTENTION]},
    "attention taps": {**ATTENTION, "taps": {}},
    "attention experts": {**ATTENTION, "kv_heads": 1, "head_experts": {"count": 3}},
    "product": {"product": [ATTENTION, {"kind": "convolution"}]},
    "parallel": {"parallel": [ATTENTION, {"kind": "convolution"}]},
    "route": {"route": [ATTENTION, RECURRENCE, {"kind": "convolution"}], "top_k": 2},
}
EXPERTS: dict[str, Any] = {
    "experts": {"kind": "experts", "count": 4, "router": {"choice_bias": True, "balance": 0.01}},
    "experts, biased, idle": {"kind": "experts", "count": 3, "of": {"kind": "dense", "bias": True}, "identity": 1},
    "experts choose": {"kind": "experts", "count": 4, "router": {"choose": "each_expert"}},
    "experts by a table": {"kind": "experts", "count": 4, "router": {"choose": "table"}},
    "experts by hash": {"kind": "experts", "count": 4, "router": {"choose": "hash"}, "shared": [{"gate": "sigmoid"}]},
}
GPU = pytest.param("cuda", marks=pytest.mark.gpu)


class Training(nn.Module):
    """What training minimises, as the forward pass of a module."""

    def __init__(self, model: Organism) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return self.model.loss(tokens_BT, targets_BT)


def gradients(training: Training, tokens_BT: Tensor) -> dict[str, Tensor]:
    """The gradient of every weight, by autograd."""
    training.zero_grad()
    training(tokens_BT, tokens_BT.roll(-1, 1)).backward()
    return {path: p.grad.clone() for path, p in training.named_parameters() if p.grad is not None}


def check_members(plan: Plan, device: str, dtype: torch.dtype = torch.float32) -> None:
    """Gradients of two members at once, each on tokens of its own, are those of two models."""
    members = [Training(build(plan, seed, device)).to(dtype) for seed in (0, 1)]
    tokens_MBT = torch.randint(0, 256, (2, 3, 20), generator=torch.Generator().manual_seed(0)).to(device)
    stacked = {
        path: torch.stack([dict(member.named_parameters())[path].detach() for member in members])
        for path, _ in members[0].named_parameters()
    }

    kept = {path: stacked.pop(path) for path in list(stacked) if path.removeprefix("model.") not in plan.trained}

    def loss(trained: dict[str, Tensor], kept: dict[str, Tensor], tokens_BT: Tensor) -> Tensor:
        return torch.func.functional_call(members[0], {**trained, **kept}, (tokens_BT, tokens_BT.roll(-1, 1)))

    together = torch.func.vmap(torch.func.grad(loss))(stacked, kept, tokens_MBT)
    for index, member in enumerate(members):
        alone = gradients(member, tokens_MBT[index])
        exact = gradients(Training(build(plan, index)).double(), tokens_MBT[index].cpu())
        assert together.keys() == alone.keys()
        for path, gradient in alone.items():
            if dtype == torch.float64:
                torch.testing.assert_close(together[path][index], gradient, rtol=1e-7, atol=1e-13)
                continue
            noise = float((gradient.cpu() - exact[path]).abs().max())  # what float32 leaves of either
            bound = max(2e-5 * float(gradient.abs().max()), 4 * noise)
            torch.testing.assert_close(together[path][index], gradient, rtol=2e-4, atol=bound)
            assert noise < 1e-3 * float(exact[path].abs().max()) + 1e-9


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("name", MIXERS)
def test_vmap_of_grad_over_members_equals_separate_runs(planned: Any, name: str, device: str) -> None:
    """A population of any mixer can be trained as one stacked model."""
    check_members(planned({"name": "s", "mix": MIXERS[name]}), device)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("name", EXPERTS)
def test_experts_stack_too(planned: Any, name: str, device: str) -> None:
    """Stacks of experts become one longer stack, however tokens are routed."""
    check_members(planned({"name": "s", "mix": {"kind": "convolution"}, "ffn": EXPERTS[name]}), device)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("place", ["pre", "post", "sandwich"])
def test_norms_feed_forwards_and_readouts_stack_too(planned: Any, place: str, device: str) -> None:
    """Layer norms, dense feed-forwards, learned positions, merged sources and a readout of its own as well."""
    ffn = {"kind": "dense", "act": "gelu", "bias": True}
    stages = [
        {"name": "low", "mix": ATTENTION, "ffn": ffn},
        {"name": "top", "from": ["low", "embedding"], "mix": ATTENTION},
    ]
    norm = {"kind": "layer", "place": place}
    plan = planned(*stages, norm=norm, position={"kind": "learned"}, readout={"tie": False, "soft_cap": 10.0})
    check_members(plan, device)


OF = {"name": "of", "mix": ATTENTION}
AROUND: dict[str, Any] = {
    "chunks": {"kind": "chunks", "of": OF, "size": 4},
    "depths": {"kind": "depths", "of": OF, "share": 0.5},
    "depths by rule": {"kind": "depths", "of": OF, "share": 0.5, "patcher": {"kind": "space"}},
    "loop": {"kind": "loop", "of": OF},
    "memory tokens": {"kind": "memory_tokens", "of": OF, "every": 8},
    "recast": {"kind": "recast", "of": OF},
    "recast, of a form": {"kind": "recast", "of": {**OF, "mix": MIXERS["maps of a form"]}, "weights": "unit"},
    "segments": {"kind": "segments", "of": OF, "every": 8, "gate": "lstm"},
    "segments of states": {"kind": "segments", "of": OF, "every": 8, "hand": "states"},
}


@pytest.mark.parametrize("name", AROUND)
def test_stages_stack_too(planned: Any, name: str) -> None:
    """Stages around another one, and a readout of unit vectors with gains."""
    stages = {"name": "low", "mix": ATTENTION}, {"name": "around", **AROUND[name]}
    check_members(planned(*stages, readout={"unit": True, "gain": True}), "cpu", torch.float64)


@pytest.mark.parametrize("kind", ["hyper", "gates", "sinkhorn", "dual", "altup", "dense", "fractions"])
def test_streams_and_predictions_ahead_stack_too(planned: Any, kind: str) -> None:
    """Connections of residual streams, and modules that predict further tokens. In float64: streams begin equal, and
    the gradients of what tells them apart are so small that in float32 they are rounding."""
    stages = [{"name": "low", "mix": ATTENTION, "streams": {"kind": kind}}, {"name": "top", "mix": ATTENTION}]
    check_members(planned(*stages, ahead={"kind": "sequential", "tokens": 2}), "cpu", torch.float64)
