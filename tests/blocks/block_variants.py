"""The blocks that the contract suite runs over: every registered kind, with a set of options each."""

from __future__ import annotations

import functools
from typing import Any

import torch
from attending_variants import ATTENDING
from ffn_variants import STATEFUL_FFNS
from held_variants import HELD
from recurrent_variants import OUTER, RECURRENCE, RECURRENT
from spatial_variants import SPATIAL
from tapped_variants import TAPPED

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.compiler.build import build, initial_weight, make
from evo.compiler.check import check
from evo.compiler.organism import Organism, OrganismState
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, from_data
from evo.dsl.plan import BlockPlan
from evo.dsl.spec import INPUT, TOKENS

WIDTH, CONTEXT = 16, 24

ATTENTION = {"kind": "attention", "heads": 4}
CONVOLUTION = {"kind": "convolution"}
LATENT = {"kind": "latent", "heads": 2, "kv_rank": 6, "nope_dim": 4, "rope_dim": 2, "value_dim": 5}


def window(size: int, sinks: int = 0) -> dict[str, Any]:
    """An attention over a window."""
    return {**ATTENTION, "stencil": {"kind": "window", "size": size, "sinks": sinks}}


MIXERS: dict[str, dict[str, Any]] = {
    "attention": ATTENTION,
    "attention grouped": {**ATTENTION, "kv_heads": 2, "head_dim": 6},
    "attention one kv head": {**ATTENTION, "kv_heads": 1},
    "attention full dress": {
        **window(6, 2),
        "kv_heads": 2,
        "qk_norm": "rms",
        "soft_cap": 2.0,
        "sink_logit": True,
        "bias": True,
    },
    "attention layer norm of heads, after position": {
        **ATTENTION,
        "kv_heads": 2,
        "qk_norm": {"kind": "layer", "gain": "heads", "eps": 1e-3, "bias": False},
        "qk_norm_at": "position",
    },
    "attention norm of all heads": {**ATTENTION, "kv_heads": 2, "qk_norm": {"kind": "rms", "groups": 1}},
    "attention norms of values and outputs": {
        **ATTENTION,
        "qk_norm": {"kind": "l2"},
        "v_norm": {"kind": "rms", "gain": False},
        "inner_norm": {"kind": "rms", "groups": 1},
    },
    "attention gate": {**ATTENTION, "gate": "channel", "value_dim": 6, "bias": True},
    "attention head gains": {**ATTENTION, "kv_heads": 2, "differ": 0.3, "head_gain": True, "gate": "channel"},
    "attention gate by head": {**ATTENTION, "gate": "head", "gate_act": "softplus", "bias": ["q", "gate"]},
    "attention scale and clip": {**ATTENTION, "scale": 0.3, "clip": 0.5, "bias": ["k"]},
    "attention values from keys": {**ATTENTION, "values": "keys", "v_norm": {"kind": "rms"}, "qk_norm": "rms"},
    "attention values that are keys": {**window(5), "kv_heads": 2, "values": "turned_keys", "k_norm": {"kind": "rms"}},
    "attention of narrow vectors": {
        **ATTENTION,
        "kv_heads": 1,
        "bias": True,
        "low_rank": {"q": 6, "o": 3, "groups": 2},
        "qk_norm": {"kind": "rms", "gain": False},
        "gate": "head",
    },
    "attention pooled, of turned keys, in full": {
        **window(4),
        "kv_heads": 1,
        "sink_logit": True,
        "values": "turned_keys",
        "k_norm": {"kind": "layer"},
        "low_rank": {"q": 16, "norm": {"kind": "layer"}},
        "position": {"kind": "rope", "dims": 2, "pairs": "neighbours", "at": "last"},
        "select": {"kind": "pooled", "size": 2, "overlap": True, "index": {"top": 3, "heads": 3, "dim": 4}},
    },
    "attention differential": {**ATTENTION, "kv_heads": 2, "differ": 0.3, "inner_norm": {"kind": "rms", "gain": False}},
    "attention temperature": {**ATTENTION, "temperature": {"slope": 0.7, "period": 5}},
    "attention smooth temperature": {
        **ATTENTION,
        "temperature": {"slope": 0.7, "period": 5, "form": "smooth", "first": 1},
    },
    **TAPPED,
    **ATTENDING,
    "attention experts": {**ATTENTION, "kv_heads": 2, "head_experts": {"count": 3}, "bias": True, "qk_norm": "rms"},
    "attention hashed": {**window(5, 2), "kv_heads": 1, "head_experts": {"top": 4, "router": {"choose": "hash"}}},
    "attention sigmoid": {**ATTENTION, "kv_heads": 2, "weigh": "sigmoid"},
    "attention softpick": {**window(5), "weigh": "softpick", "soft_cap": 3.0},
    "attention squashed": {**ATTENTION, "qk_norm": {"kind": "squashed"}, "inner_norm": {"kind": "rms", "gain": "one"}},
    "attention talking heads": {**ATTENTION, "kv_heads": 2, "mix_scores": {"before": 4, "after": 2}, "soft_cap": 3.0},
    "attention of many tokens": {**ATTENTION, "mix_scores": {"queries": 3, "keys": 4, "after": 2}},
    "attention of many keys": {**ATTENTION, "mix_scores": {"before": 2, "keys": 3}, "weigh": "softmax1"},
    "attention scalable softmax": {**ATTENTION, "temperature": {"slope": 0.7, "period": 1, "form": "log"}},
    **SPATIAL,
    "attention off by one": {**ATTENTION, "kv_heads": 2, "weigh": "softmax1", "soft_cap": 3.0},
    "attention sparsemax": {**window(5, 2), "kv_heads": 2, "weigh": "sparsemax"},
    "attention entmax": {**ATTENTION, "weigh": "entmax", "position": {"kind": "alibi"}},
    "attention relu": {**window(5), "weigh": "relu"},
    "attention with values of tokens": {**ATTENTION, "kv_heads": 1, "token_values": {"gate": "head", "reads": 5}},
    "attention with shares of values of tokens": {**ATTENTION, "token_values": {"to": "rows"}},
    "attention giving keys to mixes": {**ATTENTION, "kv_heads": 1, "mix_layers": {"to": "layer"}},
    "attention subtracting": {
        **ATTENTION,
        "heads": 4,
        "kv_heads": 2,
        "subtract": True,
        "gate": "head",
        "inner_norm": {"kind": "rms"},
    },
    "attention relu squared": {**ATTENTION, "weigh": "relu2", "differ": 0.3},
    "attention stick-breaking": {**ATTENTION, "kv_heads": 2, "weigh": "stick_breaking", "position": {"kind": "none"}},
    "attention stick-breaking in a window": {**window(5, 2), "weigh": "stick_breaking", "soft_cap": 3.0},
    "attention forgetting": {**ATTENTION, "kv_heads": 2, "forget": True, "position": {"kind": "alibi"}},
    "attention forgetting in a window": {**window(5, 2), "forget": True, "weigh": "softpick"},
    "attention window": window(5),
    "engram": {"kind": "engram", "rows": 40, "heads": 2, "dim": 3},
    "engram, one size": {"kind": "engram", "sizes": [3], "rows": 40, "heads": 1, "dim": 5, "conv": 1, "end": 7},
    "attention window, sinks": window(5, 3),
    "attention window 1, sinks": window(1, 2),
    "attention block": {**ATTENTION, "stencil": {"kind": "block", "size": 5}},
    "attention dilated": {**ATTENTION, "stencil": {"kind": "dilated", "size": 3, "dilation": 4}},
    "attention ring": {**ATTENTION, "stencil": {"kind": "ring", "size": 2, "period": 5}},
    "attention tokens": {**ATTENTION, "select": {"kind": "tokens", "top": 5, "heads": 3, "dim": 4}},
    "attention tokens, dressed": {
        **ATTENTION,
        "kv_heads": 2,
        "soft_cap": 2.0,
        "sink_logit": True,
        "differ": 0.3,
        "select": {"kind": "tokens", "top": 3, "heads": 2, "dim": 6, "q_norm": {"kind": "rms"}, "to": "seen"},
    },
    "attention values": {**ATTENTION, "kv_heads": 2, "select": {"kind": "values", "top": 5, "bias": True}},
    "attention blocks": {**ATTENTION, "kv_heads": 2, "select": {"kind": "blocks", "size": 3, "top": 3, "dim": 4}},
    "attention means": {**ATTENTION, "kv_heads": 2, "select": {"kind": "means", "size": 3, "top": 3}},
    "attention compressed": {
        **ATTENTION,
        "kv_heads": 2,
        "select": {"kind": "compressed", "size": 3, "top": 4, "window": 2},
    },
    "attention compressed, alibi": {
        **ATTENTION,
        "position": {"kind": "alibi"},
        "scale": 0.7,
        "select": {"kind": "compressed", "size": 4, "top": 1, "window": 1},
    },
    "attention pooled": {**window(4), "kv_heads": 2, "sink_logit": True, "select": {"kind": "pooled", "size": 3}},
    "attention pooled, overlapping, chosen": {
        **window(5, 2),
        "kv_heads": 1,
        "position": {"kind": "rope", "dims": 2, "pairs": "neighbours", "at": "last"},
        "select": {
            "kind": "pooled",
            "size": 2,
            "overlap": True,
            "norm": {"kind": "layer"},
            "index": {"top": 3, "heads": 3, "dim": 4, "q_norm": {"kind": "rms"}},
        },
    },
    "attention pooled, of keys": {**ATTENTION, "select": {"kind": "pooled", "size": 4, "by": "mean", "of": "keys"}},
    "attention pooled, of keys, overlapping": {
        **window(3),
        "kv_heads": 2,
        "value_dim": 6,
        "select": {"kind": "pooled", "size": 3, "of": "keys", "overlap": True, "index": {"top": 2}},
    },
    "attention whole blocks": {
        **ATTENTION,
        "kv_heads": 2,
        "select": {"kind": "whole_blocks", "size": 3, "top": 2, "heads": 3, "dim": 4, "q_norm": {"kind": "rms"}},
    },
    "attention pooled, means": {**window(3), "select": {"kind": "pooled", "size": 5, "by": "mean", "overlap": True}},
    "attention soft cap": {**ATTENTION, "soft_cap": 1.5},
    "attention sink logit": {**ATTENTION, "sink_logit": True},
    "attention alibi": {**ATTENTION, "position": {"kind": "alibi"}},
    "attention alibi window": {**window(5, 2), "position": {"kind": "alibi"}},
    "attention buckets": {**ATTENTION, "position": {"kind": "buckets", "buckets": 8, "furthest": 16}, "scale": 1.0},
    "attention buckets, window": {**window(5, 2), "position": {"kind": "buckets", "buckets": 4, "furthest": 5}},
    "attention contextual": {**ATTENTION, "kv_heads": 2, "position": {"kind": "contextual", "most": 4}},
    "attention selective": {**ATTENTION, "kv_heads": 2, "selective": "one", "sink_logit": True},
    "attention selective, each head, forgetting": {**ATTENTION, "kv_heads": 2, "selective": "each", "forget": True},
    "attention of learned spans": {**ATTENTION, "kv_heads": 2, "span": {"soft": 4}, "sink_logit": True},
    "attention of tokens' spans": {**window(7, 2), "span": {"by": "token", "most": 6, "soft": 3}},
    "attention of chosen maps": {**ATTENTION, "kv_heads": 2, "head_maps": {"count": 3}, "value_dim": 6, "bias": True},
    "attention of factors": {
        **ATTENTION,
        "kv_heads": 2,
        "factors": {"q": 3, "k": 2, "v": 1},
        "value_dim": 6,
        "bias": True,
        "gate": "head",
    },
    "attention of factors, window": {**window(5, 2), "factors": {"q": None, "k": 1, "v": 3}, "forget": True},
    "attention kerple": {**ATTENTION, "position": {"kind": "kerple"}},
    "attention kerple, window": {**window(5, 2), "position": {"kind": "kerple", "form": "power"}},
    "attention fire": {**ATTENTION, "position": {"kind": "fire", "hidden": 6, "threshold": 4}},
    "attention relative": {**ATTENTION, "kv_heads": 1, "position": {"kind": "relative", "furthest": 5}},
    "attention relative by head": {
        **ATTENTION,
        "stencil": {"kind": "window", "size": 6},
        "position": {"kind": "relative", "furthest": 3, "per": "head"},
    },
    "attention queried": {
        **ATTENTION,
        "kv_heads": 2,
        "position": {"kind": "queried", "rank": 3, "extent": 6},
        "temperature": {"slope": 0.7, "period": 5, "form": "smooth", "first": 1},
    },
    "attention transformer-xl": {**ATTENTION, "position": {"kind": "xl"}, "qk_norm": "rms"},
    "attention persistent": {**ATTENTION, "kv_heads": 2, "persistent": 3, "differ": 0.3},
    "attention persistent, window": {**window(5, 2), "persistent": 2, "soft_cap": 2.0, "sink_logit": True},
    "attention no position": {**ATTENTION, "position": {"kind": "none"}},
    "attention partial rope": {**ATTENTION, "position": {"kind": "rope", "dims": 2, "theta": 100.0}},
    "attention linear": {**ATTENTION, "position": {"kind": "rope", "scaling": {"kind": "linear", "factor": 2.0}}},
    "attention ntk": {**ATTENTION, "position": {"kind": "rope", "scaling": {"kind": "ntk", "factor": 2.0}}},
    "attention neighbouring pairs": {**ATTENTION, "position": {"kind": "rope", "pairs": "neighbours", "dims": 2}},
    "attention last pairs": {**ATTENTION, "position": {"kind": "rope", "at": "last", "dims": 2, "backwards": True}},
    "attention xpos": {**ATTENTION, "position": {"kind": "rope", "pairs": "neighbours", "decay": 20.0}},
    "attention llama3": {
        **ATTENTION,
        "position": {"kind": "rope", "scaling": {"kind": "llama3", "factor": 4.0, "original": 9}},
    },
    "attention longrope": {
        **ATTENTION,
        "position": {"kind": "rope", "scaling": {"kind": "longrope", "factors": [1.0, 3.0], "warmth": 1.2}},
    },
    "attention proportional": {
        **ATTENTION,
        "position": {"kind": "rope", "scaling": {"kind": "proportional", "share": 0.5}},
    },
    "attention yarn": {**ATTENTION, "position": {"kind": "rope", "scaling": {"kind": "yarn", "factor": 4.0}}},
    "latent": LATENT,
    "latent gate": {**LATENT, "gate": "head"},
    "latent gates": {**LATENT, "gate": "channel", "sink_logit": True},
    "latent whole": {**LATENT, "q_rank": 10, "bias": True, "scale": 0.4},
    "latent tokens": {**LATENT, "q_rank": 10, "select": {"kind": "tokens", "top": 4, "heads": 2, "dim": 4}},
    "latent blocks": {**LATENT, "select": {"kind": "blocks", "size": 4, "top": 3, "local": 2, "dim": 4}},
    "latent window": {**LATENT, "stencil": {"kind": "window", "size": 5, "sinks": 2}, "position": {"kind": "alibi"}},
    "convolution": CONVOLUTION,
    "convolution plain": {**CONVOLUTION, "gate": False, "act": "silu", "size": 3},
    "convolution 1": {**CONVOLUTION, "size": 1},
    "convolution without maps": {**CONVOLUTION, "maps": False, "residual": True, "act": "silu"},
    "link slots": {"kind": "link_slots", "heads": 2, "slots": 7, "top": 3},
    "link slots, wide": {"kind": "link_slots", "heads": 4, "dim": 6, "top": 2},
    **RECURRENT,
    "parallel": {"parallel": [window(5, 1), RECURRENCE, CONVOLUTION]},
    "parallel nested": {"parallel": [{"parallel": [ATTENTION, CONVOLUTION]}, OUTER | {"bonus": True}]},
    "route": {"route": [window(5, 1), RECURRENCE, {"parallel": [ATTENTION, CONVOLUTION]}], "temperature": 0.5},
    "route to two": {"route": [ATTENTION, OUTER, {**CONVOLUTION, "size": 3}], "top_k": 2, "balance": 0.0},
    **HELD,
    "route to all": {"route": [ATTENTION, RECURRENCE], "top_k": 2},
}

BY_CHOICE = frozenset(["route", "route to two"])
"""Rows whose costs depend on the tokens: the plan counts what they are if each choice is as frequent as any other."""

BLIND_AT_FIRST = frozenset(name for name in MIXERS if "stick-breaking" in name)
"""Mixers that read earlier tokens alone, of which the first one has none."""
BY_FFT = frozenset(name for name in MIXERS if name.startswith("hyena"))
"""Rows whose outputs pass a Fourier transform of the whole, and so are causal up to its rounding."""

NORMS: dict[str, dict[str, Any]] = {
    "rms": {"kind": "rms"},
    "layer": {"kind": "layer"},
    "layer without bias": {"kind": "layer", "bias": False, "eps": 1e-3},
    "rms without gain": {"kind": "rms", "gain": False},
    "rms with bias": {"kind": "rms", "bias": True},
    "rms in groups": {"kind": "rms", "groups": 4},
    "layer in groups": {"kind": "layer", "groups": 2},
    "layer without gain": {"kind": "layer", "bias": False, "gain": False},
    "l2": {"kind": "l2"},
    "l2 with gains": {"kind": "l2", "gain": True, "groups": 2},
    "l2 with one gain": {"kind": "l2", "gain": "one"},
    "gated": {"kind": "gated", "norm": {"kind": "layer"}, "rank": 3},
    "scaled": {"kind": "scaled", "norm": {"kind": "layer"}, "scale": 0.7},
    "squashed": {"kind": "squashed", "slope": 0.7},
    "squashed by erf": {"kind": "squashed", "by": "erf", "shift": True, "bias": False},
}


def stage(name: str, mix: Any, **settings: Any) -> dict[str, Any]:
    """A stage as data."""
    return {"name": name, "mix": mix, **settings}


def document(stages: list[dict[str, Any]], **organism: Any) -> Document:
    """A document that the checks find no error in."""
    body = {"width": WIDTH, "context": CONTEXT, "stages": stages, **organism}
    loaded = from_data({"evo": 1, "organism": body})
    errors = [diagnostic for diagnostic in check(loaded) if diagnostic.severity == "error"]
    assert not errors, errors
    return loaded.document


def plan(stages: list[dict[str, Any]], **organism: Any) -> Plan:
    """The plan of such a document."""
    return resolve(document(stages, **organism).organism)


def organism(stages: list[dict[str, Any]], **settings: Any) -> Organism:
    """The organism of such a document in float64."""
    return build(plan(stages, **settings), seed=0).double()


def block_of(whole: Plan, part: str) -> BlockPlan:
    """The plan of one block of the first layer."""
    return next(layer for _, layer in whole.stages[0].running_layers()).child(part)


@functools.cache
def host(name: str) -> Plan:
    """The plan of an organism with one row of MIXERS or STATEFUL_FFNS and nothing else."""
    block = {**MIXERS, **STATEFUL_FFNS}[name]
    return plan([{"name": "s", "layers": {"sublayers": [{"block": block}]}}])


def mixer_plan(name: str) -> BlockPlan:
    """The plan of a row of MIXERS or STATEFUL_FFNS."""
    return block_of(host(name), "0")


def built(block: BlockPlan) -> Block:
    """The module of a block in float64 with its initial weights, biases and gains drawn too."""
    module = make(block).double()
    weights = dict(block.named_weights(""))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(initial_weight(name, weights[f".{name}"], seed=0))
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def moved(found: Organism) -> Organism:
    """The same organism, in float64, with every weight moved."""
    with torch.no_grad():
        for index, parameter in enumerate(found.parameters()):
            generator = torch.Generator().manual_seed(index)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return found


def token_ids(x: torch.Tensor) -> torch.Tensor:
    """Ids below 256 that each follow from the vector (..., D) of their token."""
    return (x.detach().sum(-1) * 1000).long() % 256


class Whole:
    """A block in passes of its own: parallel, and step by step with its state."""

    def __init__(self, block: Block) -> None:
        self.block = block
        for path, module in block.named_modules():
            if isinstance(module, Block):
                module.path = path

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.pass_(x)[0]

    def pass_(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs, and the sum of the losses that it adds. A token's id follows from its vector."""
        flow = Flow(signals={TOKENS: token_ids(x), INPUT: x})
        y = flow.run(self.block, x)
        return y, torch.stack([x.new_zeros(()), *flow.losses.values()]).sum()

    def extend(self, x: torch.Tensor, state: OrganismState) -> tuple[torch.Tensor, OrganismState]:
        """The next tokens after some state of this block."""
        flow = Flow(signals={TOKENS: token_ids(x), INPUT: x}, position=state.seen, states=state.blocks)
        y = flow.run(self.block, x)
        return y, OrganismState(flow.next_states, state.seen + x.shape[1])

    def parameters(self) -> list[torch.nn.Parameter]:
        """Those of the block."""
        return list(self.block.parameters())

    def named_parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Those of the block by path."""
        return list(self.block.named_parameters())


@functools.cache
def mixer(name: str) -> Whole:
    """The module of a row of MIXERS, one and the same at each call: whoever changes it takes one of their own."""
    return Whole(built(mixer_plan(name)))


def inputs(time: int = CONTEXT, batch: int = 2, seed: int = 0) -> torch.Tensor:
    """x (B, T, D), normal, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, time, WIDTH, generator=generator, dtype=torch.float64)
