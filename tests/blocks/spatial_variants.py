"""Mixing by place that the contract suite runs over."""

from __future__ import annotations

from typing import Any

SPATIAL: dict[str, dict[str, Any]] = {
    "spatial": {"kind": "spatial", "inner": 24, "norm": {"kind": "layer"}},
    "spatial by distance": {"kind": "spatial", "heads": 2, "by": "distance", "gate_act": "sigmoid"},
    "spatial softmax": {"kind": "spatial", "heads": 4, "weigh": "softmax", "act": "identity", "gate": False},
    "spatial keys": {"kind": "spatial", "weigh": "softmax", "keys": True, "act": "identity", "gate_act": "sigmoid"},
    "spatial keys, narrow": {"kind": "spatial", "inner": 24, "weigh": "softmax", "keys": True, "rank": 3, "window": 5},
    "spatial keys in a band": {"kind": "spatial", "heads": 2, "weigh": "softmax", "keys": True, "window": 7},
    "spatial keys by distance": {
        "kind": "spatial",
        "heads": 4,
        "weigh": "softmax",
        "keys": True,
        "by": "distance",
        "window": 4,
        "gate": False,
    },
    "spatial keys by normed distance": {
        "kind": "spatial",
        "heads": 2,
        "by": "distance",
        "weigh": "softmax",
        "keys": True,
        "window": 5,
        "normed": True,
    },
    "spatial keys alone": {"kind": "spatial", "weigh": "softmax", "keys": True, "by": "nothing"},
    "spatial band": {"kind": "spatial", "heads": 2, "window": 6},
    "spatial softmax by distance": {"kind": "spatial", "heads": 2, "weigh": "softmax", "by": "distance"},
}
