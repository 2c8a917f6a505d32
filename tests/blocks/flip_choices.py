"""Organisms whose fields are flipped: routers that read those before them, choices that are no feed-forwards, picks."""

from __future__ import annotations

from typing import Any

from block_variants import CONVOLUTION, stage
from ffn_variants import ROUTED

CONSTANT = {**ROUTED, "constant": 1}
RULED = {"patcher": {"kind": "every"}, "share": 0.7, "picks_to": "p"}
CHOICES: dict[str, dict[str, Any]] = {
    "experts, network": {
        "stages": [
            stage("a", CONVOLUTION, ffn={**ROUTED, "router": {"network": {"width": 6, "to": "r"}}}),
            stage("b", CONVOLUTION, ffn={**ROUTED, "router": {"network": {"width": 6, "from": "r"}}}),
            stage("c", CONVOLUTION, ffn={**ROUTED, "router": {"network": {"width": 6}}}),
        ]
    },
    "experts, constants": {
        "stages": [
            stage("a", CONVOLUTION, ffn={**CONSTANT, "router": {"logits_to": "l", "entropy": 0.1}}),
            stage("b", CONVOLUTION, ffn={**CONSTANT, "top": 3, "router": {"logits_from": "l", "top_p": 0.7}}),
        ]
    },
    "depths": {
        "stages": [
            stage("a", CONVOLUTION),
            {"name": "b", "kind": "depths", "of": stage("c", CONVOLUTION), "share": 0.4, "pick_loss": 1.0},
            {"name": "d", "kind": "depths", "of": stage("e", CONVOLUTION), **RULED},
            {"name": "f", "kind": "depths", "of": stage("g", CONVOLUTION), "share": 0.2, "picks_from": "p"},
        ],
    },
}
