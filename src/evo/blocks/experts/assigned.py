"""The plan of a table that says which experts each token meets."""

from dataclasses import dataclass
from typing import ClassVar

from evo.dsl.plan import BlockPlan, Init, Weight


@dataclass(frozen=True, kw_only=True)
class AssignedPlan(BlockPlan):
    """A table of ids of `count` experts, which stays as it is."""

    builder: ClassVar[str] = "evo.blocks.experts.table:Assigned"
    count: int

    @property
    def is_frozen(self) -> bool:
        return True


def assigned(vocab: int, top: int, count: int) -> AssignedPlan:
    """`top` of `count` experts for each token of a vocabulary."""
    table = Weight("ids", (vocab, top), Init("cycle", count), ("rows", "channel"), "embedding")
    return AssignedPlan(kind="assigned experts", weights=(table,), count=count)
