"""A table that says which experts each token meets."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.experts.assigned import AssignedPlan


class Assigned(Block):
    """Ids of experts by token. They are kept as other weights are, so those up to 256 are exact in bfloat16 too."""

    gives_vectors = False
    ids: nn.Parameter

    def __init__(self, plan: AssignedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.count = plan.count

    def chosen(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) -> (B, T, P) int64, of an expert that there is even where a probe has moved every weight."""
        return self.ids[tokens_BT].round().long() % self.count
