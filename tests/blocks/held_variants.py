"""Mixers that hold other blocks."""

from __future__ import annotations

from typing import Any

ATTENTION = {"kind": "attention", "heads": 4}
WINDOW = {**ATTENTION, "stencil": {"kind": "window", "size": 5, "sinks": 1}}
CANON = {"kind": "convolution", "maps": False, "residual": True}
RECURRENCE = {"kind": "recurrence", "heads": 2}
LATENT = {"kind": "latent", "heads": 2, "kv_rank": 6, "nope_dim": 4, "rope_dim": 2, "value_dim": 5, "bias": True}

HELD: dict[str, dict[str, Any]] = {
    "chain": {"chain": [CANON, WINDOW, {"kind": "dense"}]},
    "chain of two": {"chain": [CANON, {**ATTENTION, "kv_heads": 1}]},
    "product": {"product": [WINDOW, {"kind": "memory", "heads": 2, "chunk": 5}]},
    "product of any two blocks": {
        "product": [{"chain": [CANON, WINDOW]}, {"kind": "linear", "rank": 3}],
        "act": "identity",
        "norm": "none",
    },
    "product, normed": {"product": [{"kind": "dense"}, WINDOW], "act": "silu", "norm": {"kind": "layer"}},
    "conditioned": {"conditioned": ATTENTION, "at": ["input", "output", "q"], "hidden": 8},
    "conditioned by segments": {"conditioned": RECURRENCE, "by": "lora", "at": ["k", "input"], "segment": 5, "rank": 2},
    "conditioned, added": {"conditioned": {"kind": "convolution"}, "by": "add", "at": "output", "segment": 7},
    "formed": {"formed": {**ATTENTION, "kv_heads": 2, "bias": True}, "on": ["q", "k", "o"], "blocks": 2},
    "formed recurrence": {"formed": RECURRENCE, "form": "low_rank", "rank": 3},
    "formed, activated": {"formed": ATTENTION, "form": "low_rank", "rank": 3, "factor_act": "silu"},
    "formed latent": {"formed": LATENT, "form": "blocks", "blocks": 2},
    "formed condition": {"formed": {"conditioned": ATTENTION, "at": ["input", "q"], "hidden": 8}, "blocks": 2},
    "conditioned form": {"conditioned": {"formed": ATTENTION, "on": "v"}, "at": "output", "hidden": 8},
    "pool of forms": {"kind": "pool", "slots": 2, "of": {"formed": {**ATTENTION, "head_dim": 4}}},
    "pool": {"kind": "pool", "slots": 4},
    "pool, half of it alive": {"kind": "pool", "slots": 4, "alive": 2, "of": {**WINDOW, "head_dim": 4}},
    "pool of recurrences": {"kind": "pool", "slots": 2, "of": RECURRENCE},
    "pool of attention with a norm": {"kind": "pool", "slots": 2, "of": {**ATTENTION, "qk_norm": "rms"}},
    "joined": {"joined": {**ATTENTION, "bias": True}, "norm": {"kind": "rms"}},
    "joined, added": {"joined": {"kind": "convolution"}, "by": "sum", "norm": {"kind": "rms"}},
    "joined latent": {"joined": LATENT},
    "joined recurrence": {"joined": RECURRENCE, "norm": {"kind": "rms", "groups": 2}},
    "joined scan": {"joined": {"kind": "selective_scan", "state": 3, "bias": True}},
    "joined mlstm": {"joined": {"kind": "mlstm", "heads": 2}},
    "joined wide mlstm": {"joined": {"kind": "mlstm", "heads": 2, "wide": {"conv": 2}}},
    "joined rg_lru": {"joined": {"kind": "rg_lru", "heads": 2, "bias": True}},
    "joined feed-forward": {"joined": {"kind": "gated", "bias": True}},
    "joined map": {"joined": {"kind": "linear", "rank": 3, "bias": True}},
}
