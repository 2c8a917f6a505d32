"""The language and the plan of norms whose output is multiplied by a constant of their layer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import FIXED
from evo.dsl.plan import BlockPlan, Cost
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ScaledNormPlan(BlockPlan):
    """A norm whose output is multiplied by `factor`."""

    builder: ClassVar[str] = "evo.blocks.norm.scaled.module:ScaledNorm"
    factor: float


class ScaledNormSpec(NormSpec):
    """scale * n^power * norm(x), n the number of the layer from 1 on; 1 outside of layers (LayerNorm scaling, Sun et
    al. 2502.05795)."""

    kind: ClassVar[str | None] = "scaled"

    norm: Annotated[Spec, RoleOf("norm", default="rms"), FIXED] = DEFAULT
    """The norm."""
    power: Annotated[float, Field(ge=-4, le=4), FIXED] = -0.5
    """The exponent of the layer's number; 0 for the same in all layers."""
    scale: Annotated[float, Field(ge=-1e6, le=1e6), FIXED] = 1.0
    """What the power is multiplied by."""

    @property
    def reads_layer(self) -> bool:
        return self.power != 0

    def stream_problems(self, width: int, path: tuple[str | int, ...] = ()) -> Iterator[Fault]:
        assert isinstance(self.norm, NormSpec)
        yield from self.norm.slot_problems(width, (*path, "norm"))

    def plan(self, scope: Scope) -> BlockPlan:
        assert isinstance(self.norm, NormSpec)
        return ScaledNormPlan(
            kind=self.label,
            cost=Cost(flops=scope.width, activations=scope.width),
            children=(("norm", self.norm.plan(scope)),),
            factor=self.scale * float(scope.layer) ** self.power,
        )
