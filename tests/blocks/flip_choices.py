"""Organisms whose fields are flipped: routers that read those before them, and choices that are no feed-forwards."""

from __future__ import annotations

from typing import Any

from block_variants import CONVOLUTION, stage
from ffn_variants import ROUTED

CONSTANT = {**ROUTED, "constant": 1}
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
}
