"""The plans of features that need more than a vector: random projections, and where a token stands."""

from dataclasses import dataclass
from typing import ClassVar

from evo.dsl.plan import BlockPlan, Init, Weight


@dataclass(frozen=True, kw_only=True)
class DrawnPlan(BlockPlan):
    """Random projections of each head of keys, which stay as they are. is_divided: whether outputs are over a sum."""

    builder: ClassVar[str] = "evo.blocks.recurrence.feature_maps:Drawn"
    is_divided: bool

    @property
    def is_frozen(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class CosinePlan(BlockPlan):
    """A quarter turn over `context` tokens."""

    builder: ClassVar[str] = "evo.blocks.recurrence.feature_maps:Cosine"
    context: int


def feature_maps(
    feature: str, groups: int, key_dim: int, draws: int, context: int, is_divided: bool
) -> list[tuple[str, BlockPlan]]:
    """What a feature needs besides a vector, by name; nothing for most."""
    if feature == "drawn":
        rows = Weight("rows", (groups, draws, key_dim), Init("orthogonal", 1.0), ("stack", "rows", "channel"))
        return [("feature_map", DrawnPlan(kind="random features", weights=(rows,), is_divided=is_divided))]
    return [("feature_map", CosinePlan(kind="cosine features", context=context))] if feature == "cosines" else []
