"""Organisms whose fields are flipped: attentions that choose what they meet."""

from __future__ import annotations

from typing import Any

from block_variants import LATENT, stage

ATTENTION = {"kind": "attention", "heads": 2}
RMS = {"kind": "rms"}
TOKENS = {"kind": "tokens", "top": 5, "heads": 3, "dim": 4}
BLOCKS = {"kind": "blocks", "size": 3, "top": 4, "dim": 4, "q_norm": {"kind": "layer"}}
POOLED = {"kind": "pooled", "size": 3}
ENTRY_INDEX = {"top": 2, "heads": 3, "dim": 4, "q_norm": {"kind": "layer"}, "position": {"kind": "none"}}

SELECTIONS: dict[str, dict[str, Any]] = {
    "narrow": {
        "stages": [
            stage(
                "body",
                {
                    "kind": "attention",
                    "heads": 4,
                    "kv_heads": 2,
                    "values": "turned_keys",
                    "k_norm": RMS,
                    "low_rank": {"q": 6, "norm": {"kind": "layer"}, "o": 3, "groups": 2},
                },
                ffn={"kind": "none"},
            )
        ],
    },
    "tokens": {
        "stages": [
            stage(
                "a",
                [
                    {**ATTENTION, "select": {**TOKENS, "to": "seen", "q_norm": RMS, "position": {"kind": "none"}}},
                    {**LATENT, "select": {"kind": "shared", "of": "seen"}},
                ],
                repeat=2,
                ffn={"kind": "none"},
            ),
        ]
    },
    "blocks": {"stages": [stage("a", {**ATTENTION, "select": BLOCKS}, ffn={"kind": "none"})]},
    "whole blocks": {
        "stages": [
            stage("a", {**ATTENTION, "select": {**BLOCKS, "kind": "whole_blocks", "heads": 3}}, ffn={"kind": "none"})
        ]
    },
    "means": {
        "stages": [stage("a", {**ATTENTION, "select": {"kind": "means", "size": 3, "top": 2}}, ffn={"kind": "none"})]
    },
    "nearest": {
        "stages": [stage("a", {**ATTENTION, "select": {"kind": "nearest", "size": 5, "top": 3}}, ffn={"kind": "none"})]
    },
    "values": {"stages": [stage("a", {**ATTENTION, "select": {"kind": "values", "top": 4}}, ffn={"kind": "none"})]},
    "pooled": {
        "stages": [
            stage(
                "a",
                [
                    {**ATTENTION, "stencil": {"kind": "window", "size": 3}, "select": {**POOLED, "overlap": True}},
                    {**ATTENTION, "select": {**POOLED, "by": "mean", "of": "keys"}},
                    {**ATTENTION, "select": {**POOLED, "index": ENTRY_INDEX}},
                ],
                repeat=3,
                ffn={"kind": "none"},
            ),
        ],
    },
    "compressed": {
        "stages": [
            stage(
                "a",
                {**ATTENTION, "select": {"kind": "compressed", "size": 4, "top": 2, "window": 3}},
                ffn={"kind": "none"},
            ),
        ]
    },
}
