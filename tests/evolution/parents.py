"""Documents that tests mutate and cross."""

from __future__ import annotations

from typing import Any

from evo.compiler.check import require_valid
from evo.dsl.document import Document, from_data

ATTENTION = {"kind": "attention", "heads": 2}
TRAIN = {"steps": 3, "batch": 2}


def stage(name: str, mix: Any = None, **settings: Any) -> dict[str, Any]:
    """A stage as data, with a small feed-forward."""
    return {"name": name, "mix": mix or ATTENTION, "ffn": {"kind": "gated", "ratio": 1.0}, **settings}


def document(*stages: dict[str, Any], train: dict[str, Any] | None = None, **organism: Any) -> Document:
    """A small document that the checks find no error in."""
    body = {"width": 32, "context": 16, "stages": list(stages) or [stage("body", repeat=4)], **organism}
    return require_valid(from_data({"evo": 1, "organism": body, "train": {**TRAIN, **(train or {})}}))


def hybrid() -> Document:
    """Three stages of every kind of mixer, named ones, wiring, and a feed-forward list."""
    return document(
        stage("lower", ["near", {"kind": "recurrence", "heads": 2}], repeat=2),
        stage("middle", {"parallel": ["near", {"kind": "convolution"}]}, position={"kind": "alibi"}),
        stage(
            "upper",
            repeat=3,
            ffn=[{"kind": "dense", "ratio": 1.0}, {"kind": "none"}],
            norm={"kind": "layer", "place": "sandwich"},
            **{"from": ["embedding", "middle"]},
        ),
        pseudopods={"near": {**ATTENTION, "stencil": {"kind": "window", "size": 4}}},
    )


PARENTS = {"plain": document, "hybrid": hybrid}
