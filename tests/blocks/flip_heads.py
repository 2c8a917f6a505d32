"""Organisms whose fields are flipped: attentions whose heads or scores are more than usual."""

from __future__ import annotations

from typing import Any

from block_variants import stage

ATTENTION = {"kind": "attention", "heads": 2}

HEADED: dict[str, dict[str, Any]] = {
    "heads of experts": {
        "stages": [
            stage(
                "a", {**ATTENTION, "kv_heads": 1, "head_experts": {"count": 4}}, ffn={"kind": "experts", "bias": True}
            ),
        ]
    },
    "spans": {
        "stages": [
            stage("a", {**ATTENTION, "span": {"soft": 4, "penalty": 0.1}}, ffn={"kind": "none"}),
            stage("b", {**ATTENTION, "span": {"by": "token", "most": 8, "soft": 3}}, ffn={"kind": "none"}),
        ]
    },
    "factors": {
        "stages": [
            stage("a", {**ATTENTION, "factors": {"q": 3, "k": 2, "v": 2}}, ffn={"kind": "none"}),
            stage("c", {**ATTENTION, "head_maps": {"count": 3, "top": 2}}, ffn={"kind": "none"}),
            stage(
                "b",
                {**ATTENTION, "selective": "one", "position": {"kind": "contextual", "most": 4}},
                ffn={"kind": "none"},
            ),
        ]
    },
    "polar": {
        "position": {"kind": "polar"},
        "stages": [
            stage("a", {**ATTENTION, "position": {"kind": "polar", "theta": 50.0}}, ffn={"kind": "none"}),
            stage("b", {**ATTENTION, "kv_heads": 1}, ffn={"kind": "none"}),
        ],
    },
    "composed scores": {
        "stages": [
            stage("a", {**ATTENTION, "mix_scores": {"compose": {"rank": 1, "by": ["key"]}}}, ffn={"kind": "none"}),
            stage("b", {**ATTENTION, "mix_scores": {"compose": {"hidden": 4, "on": ["after"]}}}, ffn={"kind": "none"}),
            stage(
                "c", {**ATTENTION, "position": {"kind": "kerple"}, "mix_scores": {"network": 4}}, ffn={"kind": "none"}
            ),
        ],
    },
    "tied": {
        "position": {"kind": "none"},
        "stages": [
            stage("a", {**ATTENTION, "values": "tied", "shared_dims": 3, "clip": 0.5}, ffn={"kind": "none"}),
            stage("b", {**ATTENTION, "values": "tied", "bias": ["k"], "kv_heads": 1}, ffn={"kind": "none"}),
        ],
    },
    "differing": {
        "stages": [
            stage(
                "a",
                {**ATTENTION, "heads": 6, "head_dim": 4, "kv_heads": 2, "differ": 0.3, "differ_from": 2},
                ffn={"kind": "none"},
            )
        ]
    },
    "latent groups": {
        "stages": [
            stage(
                "a",
                {
                    "kind": "latent",
                    "heads": 6,
                    "kv_heads": 2,
                    "kv_rank": 6,
                    "nope_dim": 4,
                    "rope_dim": 4,
                    "value_dim": 5,
                    "subtract": True,
                    "subtract_from": 2,
                },
                ffn={"kind": "none"},
            )
        ]
    },
    "heads that count": {
        "stages": [
            stage("a", {**ATTENTION, "heads": 4, "head_shares": {"top": 2, "shared": 1}}, ffn={"kind": "none"}),
            stage("b", {**ATTENTION, "heads": 6, "head_dim": 4, "subtract": True, "subtract_from": 2}),
        ]
    },
}
