"""Organisms whose fields are flipped: recurrences, scans and attentions that are like them."""

from __future__ import annotations

from typing import Any

from block_variants import stage
from recurrent_variants import OUTER, RECURRENCE

RECURRENCES: dict[str, dict[str, Any]] = {
    "mlstm": {
        "width": 32,
        "stages": [
            stage("body", {"kind": "mlstm", "heads": 2}),
            stage("wide", {"kind": "mlstm", "heads": 2, "wide": {"inner": 24}}, ffn={"kind": "none"}),
        ],
    },
    "turning": {
        "stages": [
            stage("a", {**OUTER, "turns": True, "conv": 0, "feature": "identity"}, ffn={"kind": "none"}),
            stage("b", {**RECURRENCE, "turns": True, "conv": 0, "decay": "none"}, ffn={"kind": "none"}),
        ]
    },
    "features": {
        "stages": [
            stage("a", {**OUTER, "feature": "signs", "conv": 0, "gate": "none"}, ffn={"kind": "none"}),
            stage("b", {**OUTER, "feature": "squares", "feature_map": True, "conv": 0}, ffn={"kind": "none"}),
            stage("c", {**OUTER, "feature": "drawn", "conv": 0, "gate": "none"}, ffn={"kind": "none"}),
            stage("d", {**OUTER, "feature": "fourier", "write": "rest", "conv": 0, "draws": 5}, ffn={"kind": "none"}),
        ]
    },
    "memories": {
        "stages": [
            stage("a", {"kind": "memory", "heads": 2, "norm": True, "bias": True, "chunk": 4}, ffn={"kind": "none"}),
            stage("b", {"kind": "memory", "heads": 2, "loss": "huber", "chunk": 4, "power": 4.0}, ffn={"kind": "none"}),
        ]
    },
    "trapezoids": {
        "stages": [
            stage(
                "a",
                {
                    **OUTER,
                    "write": "trapezoid",
                    "decay": {"kind": "token", "form": "product", "least": 0.002, "most": 0.01},
                    "qk_norm": {"kind": "rms"},
                    "qk_bias": True,
                    "feature": "identity",
                    "conv": 0,
                },
                ffn={"kind": "none"},
            ),
        ]
    },
    "ranks": {
        "stages": [
            stage(
                "a",
                {**OUTER, "ranks": 2, "normalizer": "none", "write": "step", "feature": "identity", "conv": 0},
                ffn={"kind": "none"},
            ),
        ]
    },
    "readings": {
        "stages": [
            stage("a", {**OUTER, "solve": 3, "conv": 0}, ffn={"kind": "none"}),
            stage("b", {**RECURRENCE, "levels": True, "conv": 0}, ffn={"kind": "none"}),
        ]
    },
    "shares": {
        "stages": [
            stage("a", {**RECURRENCE, "erase": "head", "correct": True}, ffn={"kind": "none"}),
            stage("b", {**RECURRENCE, "erase": "channel", "write": "channel", "conv": 0}, ffn={"kind": "none"}),
            stage("c", {**OUTER, "write": "share", "feature": "identity", "conv": 0}, ffn={"kind": "none"}),
        ]
    },
    "state spaces": {
        "stages": [
            stage("a", {"kind": "state_space", "state": 4}, ffn={"kind": "none"}),
            stage("c", {"kind": "ema", "state": 4}, ffn={"kind": "none"}),
            stage("b", {"kind": "state_space", "state": 6, "dense": True, "form": "lru"}, ffn={"kind": "none"}),
        ]
    },
    "gated slots": {
        "stages": [
            stage("a", {"kind": "gated_slots", "heads": 2, "kv_heads": 1, "slots": 4}, ffn={"kind": "none"}),
            stage("b", {"kind": "gated_slots", "heads": 2, "slots": 4, "write": "softmax"}, ffn={"kind": "none"}),
        ]
    },
    "gated scans": {
        "stages": [
            stage("a", {"kind": "gated_scan", "inner": 24, "norm": {"kind": "rms"}}, ffn={"kind": "none"}),
            stage("b", {"kind": "gated_scan", "input": "share", "gate": "silu", "least": 0.2}, ffn={"kind": "none"}),
            stage("c", {"kind": "gated_scan", "input": "own", "act": "positive"}, ffn={"kind": "none"}),
        ]
    },
    "recurrent networks": {
        "stages": [
            stage("a", {"kind": "rnn", "inner": 24, "norm": {"kind": "rms"}, "conv": 2}, ffn={"kind": "none"}),
            stage("b", {"kind": "rnn", "heads": 2, "input": "exponential"}, ffn={"kind": "none"}),
            stage("c", {"kind": "rnn", "cell": "gru", "bias": True}, ffn={"kind": "none"}),
        ]
    },
    "compressive": {
        "stages": [
            stage("a", {"kind": "compressive", "heads": 2, "kv_heads": 1, "segment": 4}, ffn={"kind": "none"}),
            stage(
                "b",
                {"kind": "compressive", "heads": 2, "segment": 6, "update": "delta", "position": {"kind": "rope"}},
                ffn={"kind": "none"},
            ),
        ]
    },
    "path attention": {
        "stages": [
            stage("a", {"kind": "path_attention", "heads": 2, "kv_heads": 1, "forget": True}, ffn={"kind": "none"}),
            stage(
                "b",
                {"kind": "path_attention", "heads": 2, "rank": None, "qk_norm": {"kind": "rms"}},
                ffn={"kind": "none"},
            ),
        ]
    },
}
