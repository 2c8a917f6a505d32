"""Organisms whose fields are flipped: stages over segments of tokens, and loops that tokens leave."""

from __future__ import annotations

from typing import Any

from block_variants import CONVOLUTION, stage

HALTING: dict[str, dict[str, Any]] = {
    "halting": {
        "stages": [
            {
                "name": "b",
                "kind": "loop",
                "of": stage("c", CONVOLUTION),
                "times": 4,
                "halt": {"threshold": 0.8, "loss": 0.1},
            }
        ]
    },
}
SEGMENTED: dict[str, dict[str, Any]] = {
    "memory tokens": {
        "stages": [
            {"name": "a", "kind": "memory_tokens", "of": stage("b", CONVOLUTION), "every": 4, "count": 2},
            {
                "name": "c",
                "kind": "memory_tokens",
                "of": stage("d", CONVOLUTION),
                "every": 3,
                "from": ["embedding", "a"],
            },
        ],
    },
    "segments": {
        "stages": [
            {"name": "a", "kind": "segments", "of": stage("b", CONVOLUTION), "every": 4, "count": 2},
            {
                "name": "c",
                "kind": "segments",
                "of": stage("d", CONVOLUTION),
                "every": 3,
                "backprop": 2,
                "from": ["embedding", "a"],
            },
        ],
    },
}
