"""An adapter of another package."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from evo.blocks.adapters.spec import AdapterSpec
from evo.blocks.base import Adapter, Block
from evo.blocks.flow import Project
from evo.dsl.plan import ZEROS, AdapterPlan, Weight
from evo.kernels.grouped import Groups


@dataclass(frozen=True, kw_only=True)
class FlatPlan(AdapterPlan):
    """One number that is added to every entry of a map of some shape."""

    builder: ClassVar[str] = "strangers.adapters:Flat"
    shape: tuple[int, ...]


class FlatSpec(AdapterSpec):
    """W + c."""

    kind: ClassVar[str | None] = "flat"

    def plan_for(self, weight: Weight) -> FlatPlan:
        level = Weight("level", weight.shape, ZEROS, weight.axes, "vector", weight.share)
        return FlatPlan(kind=self.label, weights=(level,), shape=weight.shape)


class Flat(Adapter):
    """The whole change as a map of its own."""

    level: nn.Parameter

    def __init__(self, plan: FlatPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)

    def delta(self) -> Tensor:
        return self.level

    def project(self, inner: Project, x: Tensor, groups: Groups | None) -> Tensor:
        return inner(x, self.level, None, groups)
