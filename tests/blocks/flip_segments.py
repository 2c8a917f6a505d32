"""Organisms whose fields are flipped: stages over segments of tokens, and stages that run several times."""

from __future__ import annotations

from typing import Any

from block_variants import CONVOLUTION, stage

LAYER = {"kind": "layer"}

REPEATED: dict[str, dict[str, Any]] = {
    "cycles": {
        "stages": [
            stage("a", CONVOLUTION),
            {"name": "b", "kind": "cycles", "of": stage("c", CONVOLUTION), "slow": stage("d", CONVOLUTION), "turns": 2},
            {
                "name": "e",
                "kind": "cycles",
                "of": stage("f", CONVOLUTION),
                "turns": 2,
                "inject": "always",
                "backprop": 1,
                "from": ["a", "b"],
            },
        ],
    },
    "loops": {
        "stages": [
            stage("a", CONVOLUTION),
            {"name": "b", "kind": "loop", "of": stage("c", CONVOLUTION), "times": 3, "norm": LAYER, "backprop": 1},
            {
                "name": "d",
                "kind": "loop",
                "of": stage("e", CONVOLUTION),
                "times": 5,
                "score_times": 2,
                "draw": "poisson",
                "spread": 2.0,
                "start": "learned",
            },
        ],
    },
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
    "expected halting": {
        "stages": [
            {
                "name": "b",
                "kind": "loop",
                "of": stage("c", CONVOLUTION),
                "times": 4,
                "halt": {"by": "losses", "threshold": 0.6, "prior": 0.3, "loss": 0.1},
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
            {"name": "e", "kind": "segments", "of": stage("f", CONVOLUTION), "every": 5, "hand": "states"},
        ],
    },
}
