"""A patcher: behind every third token."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.dynamic_patches.patchers.module import Patcher
from evo.blocks.stages.dynamic_patches.patchers.spec import PatcherSpec
from evo.dsl.plan import BlockPlan
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class ThirdPlan(BlockPlan):
    """Nothing to learn."""

    builder: ClassVar[str] = "strangers.patchers:Third"


class ThirdSpec(PatcherSpec):
    """Behind every third token."""

    kind: ClassVar[str | None] = "third"

    def plan(self, scope: Scope) -> ThirdPlan:
        del scope
        return ThirdPlan(kind=self.label)


class Third(Patcher):
    """See the spec."""

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T)."""
        at_T = torch.arange(flow.position, flow.position + x_BTD.shape[1], device=x_BTD.device)
        return (at_T % 3 == 2).expand(x_BTD.shape[:2])
