"""The plans of features that need more than a vector: random projections, and where a token stands."""

from dataclasses import dataclass
from typing import ClassVar

from evo.dsl.plan import ONES, BlockPlan, Init, Weight


@dataclass(frozen=True, kw_only=True)
class DrawnPlan(BlockPlan):
    """Random projections of each head of keys, which stay as they are. is_divided: whether outputs are over a sum."""

    builder: ClassVar[str] = "evo.blocks.recurrence.feature_maps:Drawn"
    is_divided: bool

    @property
    def is_frozen(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class RowsPlan(BlockPlan):
    """Random projections alone, which stay as they are."""

    builder: ClassVar[str] = "evo.blocks.recurrence.feature_maps:Rows"

    @property
    def is_frozen(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class FourierPlan(BlockPlan):
    """Waves along random projections, its child `drawn`, of channels times learned numbers."""

    builder: ClassVar[str] = "evo.blocks.recurrence.feature_maps:Fourier"


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
    if feature == "fourier":
        rows = Weight("rows", (groups, draws, key_dim), Init("normal", 1.0), ("stack", "rows", "channel"))
        widths = Weight("widths", (groups, key_dim), ONES, ("stack", "channel"))
        children = (("drawn", RowsPlan(kind="random projections", weights=(rows,))),)
        return [("feature_map", FourierPlan(kind="random Fourier features", weights=(widths,), children=children))]
    return [("feature_map", CosinePlan(kind="cosine features", context=context))] if feature == "cosines" else []
