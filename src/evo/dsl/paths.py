"""How the weights of an organism are called. The one grammar of dotted paths:

embedding.WEIGHT
stages.STAGE.merge                      gains on what a stage reads, where that is a sum
stages.STAGE.LAYER.BLOCK.WEIGHT         and whatever else a stage contains, below stages.STAGE
final_norm.WEIGHT
readout.weight
ahead.BLOCK.WEIGHT                      what predicts tokens beyond the next
"""

from __future__ import annotations

MERGE = "merge"
"""The gains on a stage's sources: they belong to its wiring, all else below it to its layers."""
AHEAD = "ahead"
"""What the paths of weights that predict tokens beyond the next begin with."""


def stage_path(name: str) -> str:
    """What the paths of a stage's weights begin with, without the last dot."""
    return f"stages.{name}"


def layer_path(stage: str, layer: str | int) -> str:
    """The same for one of its layers."""
    return f"{stage_path(stage)}.{layer}"


def merge_path(stage: str) -> str:
    """The path of the gains on its sources."""
    return f"{stage_path(stage)}.{MERGE}"
