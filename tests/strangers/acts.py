"""An activation of another package."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from evo.blocks.activation.module import Activation
from evo.blocks.activation.spec import ActSpec
from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.dsl.genes import Gene
from evo.dsl.plan import BlockPlan, Cost


@dataclass(frozen=True, kw_only=True)
class BumpPlan(BlockPlan):
    """A bump of some width."""

    builder: ClassVar[str] = "strangers.acts:Bump"
    width: float


class BumpSpec(ActSpec):
    """x exp(-(x / width)²)."""

    kind: ClassVar[str | None] = "bump"

    width: Annotated[float, Field(gt=0), Gene(0.5, 4, "scale")] = 2.0
    """Where it falls."""

    def over(self, hidden: int) -> BumpPlan:
        return BumpPlan(kind=self.label, cost=Cost(flops=4.0 * hidden, activations=hidden), width=self.width)


class Bump(Activation):
    """x exp(-(x / width)²)."""

    def __init__(self, plan: BumpPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.width = plan.width

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        return x_BTD * (-(x_BTD / self.width).square()).exp()
