"""Attentions whose projections pass short convolutions."""

from __future__ import annotations

from typing import Any

ATTENTION = {"kind": "attention", "heads": 4}
WINDOW = {**ATTENTION, "stencil": {"kind": "window", "size": 5, "sinks": 0}}

TAPPED: dict[str, dict[str, Any]] = {
    "attention taps": {**ATTENTION, "kv_heads": 2, "taps": {"size": 4, "on": ["k", "v"], "residual": True}},
    "attention taps over a window": {**WINDOW, "taps": {"act": "silu"}, "values_to": "first"},
    "attention taps that mix channels": {
        **ATTENTION,
        "kv_heads": 2,
        "taps": {"size": 2, "on": ["q", "k"], "mix": 3, "bias": True, "residual": "paired"},
        "values": "halves",
        "key_gain": True,
        "bias": True,
        "qk_norm": {"kind": "rms", "gain": False},
    },
    "attention taps of one matrix": {
        **WINDOW,
        "taps": {"size": 3, "on": ["v"], "mix": 1, "act": "silu", "bias": True, "residual": True},
    },
    "attention taps with a bias": {**ATTENTION, "taps": {"on": ["k"], "act": "silu", "bias": True}},
    "attention taps of heads": {**ATTENTION, "kv_heads": 2, "taps": {"by": "head", "bias": True, "act": "silu"}},
    "attention taps of tokens": {
        **ATTENTION,
        "kv_heads": 2,
        "taps": {"by": "token", "size": 3, "on": ["q", "v"], "mix": 2, "bias": True},
        "low_rank": {"q": 6},
    },
    "attention taps of tokens over a window": {
        **WINDOW,
        "taps": {"by": "token", "size": 2, "on": ["k", "v"], "act": "silu", "bias": True, "residual": True},
        "values": "halves",
    },
}
