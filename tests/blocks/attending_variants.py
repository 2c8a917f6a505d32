"""Attentions whose heads, scores and positions are more than usual, for the contract suite."""

from __future__ import annotations

from typing import Any

ATTENTION = {"kind": "attention", "heads": 4}
NEAR = {**ATTENTION, "stencil": {"kind": "window", "size": 5}}

LATENT = {"kind": "latent", "kv_rank": 6, "nope_dim": 4, "rope_dim": 2, "value_dim": 5}
SUBTRACTING = {"subtract": True, "subtract_from": 2}

ATTENDING: dict[str, dict[str, Any]] = {
    "attention subtracting from two": {
        **ATTENTION,
        "heads": 6,
        "head_dim": 4,
        "kv_heads": 2,
        "subtract": True,
        "subtract_from": 2,
        "gate": "head",
    },
    "attention of shared heads": {**ATTENTION, "kv_heads": 2, "head_shares": {"top": 2, "shared": 1}, "gate": "head"},
    "attention polar": {
        **ATTENTION,
        "kv_heads": 2,
        "position": {"kind": "polar", "start": "uniform"},
        "qk_norm": "rms",
    },
    "attention polar in a window": {**NEAR, "position": {"kind": "polar"}, "scale": 0.3, "differ": 0.3},
    "attention composing": {**ATTENTION, "kv_heads": 2, "mix_scores": {"compose": {"rank": 1}, "after": 4}},
    "attention composing, by keys, in a window": {
        **NEAR,
        "mix_scores": {"compose": {"hidden": 5, "by": ["key"], "on": ["before"]}},
        "soft_cap": 3.0,
    },
    "attention composing, by queries": {**ATTENTION, "mix_scores": {"compose": {"by": ["query"], "on": ["after"]}}},
    "attention with a network of scores": {
        **ATTENTION,
        "kv_heads": 2,
        "position": {"kind": "alibi"},
        "mix_scores": {"network": 6},
    },
    "attention with a network of scores in a window": {
        **NEAR,
        "position": {"kind": "kerple"},
        "mix_scores": {"network": 6, "queries": 1, "before": 2},
    },
    "attention of tied keys": {
        **ATTENTION,
        "kv_heads": 2,
        "values": "tied",
        "position": {"kind": "rope", "dims": 2, "at": "last"},
        "bias": ["k"],
    },
    "attention of tied keys in a window": {**NEAR, "values": "tied", "shared_dims": 1, "position": {"kind": "alibi"}},
    "attention nearest": {**ATTENTION, "kv_heads": 2, "select": {"kind": "nearest", "size": 5, "top": 3}},
    "attention nearest, learning": {
        **ATTENTION,
        "qk_norm": "rms",
        "sink_logit": True,
        "select": {"kind": "nearest", "size": 4, "top": 2, "learns": True},
    },
    "attention differing from two": {
        **ATTENTION,
        "heads": 6,
        "head_dim": 4,
        "kv_heads": 4,
        "differ": 0.3,
        "differ_from": 2,
        "inner_norm": {"kind": "rms"},
    },
    "latent grouped": {**LATENT, "heads": 4, "kv_heads": 2, "position": {"kind": "alibi"}},
    "latent subtracting": {**LATENT, "heads": 6, "kv_heads": 2, "q_rank": 5, "gate": "channel", **SUBTRACTING},
    "attention of chosen heads": {
        **NEAR,
        "head_shares": {"top": 1, "even": False, "router": {"renormalise": False}},
        "bias": True,
    },
}
