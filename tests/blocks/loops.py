"""An organism with a loop in its middle."""

from __future__ import annotations

from typing import Any

from block_variants import moved, organism, stage

from evo.compiler.organism import Organism

CONVOLUTION = {"kind": "convolution"}
BODY = stage("step", [{"kind": "attention", "heads": 2}, CONVOLUTION], repeat=2, ffn={"kind": "gated", "ratio": 1.0})


def model(**loop: Any) -> Organism:
    """A prelude, a loop and a coda in float64, with every weight moved."""
    middle = {"name": "think", "kind": "loop", "of": BODY, **loop}
    return moved(organism([stage("prelude", CONVOLUTION), middle, stage("coda", CONVOLUTION)]))
