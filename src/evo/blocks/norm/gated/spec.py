"""The language and the plan of norms that gate their own output."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.acts import Word
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class GatedNormPlan(BlockPlan):
    """A norm, and the two maps of its gate."""

    builder: ClassVar[str] = "evo.blocks.norm.gated.module:GatedNorm"
    act: str


class GatedNormSpec(NormSpec):
    """y * sigmoid(W_up act(W_down y)), y = norm(x): each channel of a norm is gated by all of them (A.X K2)."""

    kind: ClassVar[str | None] = "gated"

    norm: Annotated[Spec, RoleOf("norm", default="rms"), FIXED] = DEFAULT
    """The norm."""
    rank: Annotated[int, Field(ge=1, le=65536), Gene(4, 64, "x2")] = 16
    """How many values the gate passes through."""
    act: Annotated[Word, FIXED] = "silu"
    """The activation between the maps of the gate."""

    def stream_problems(self, width: int, path: tuple[str | int, ...] = ()) -> Iterator[Fault]:
        assert isinstance(self.norm, NormSpec)
        yield from self.norm.slot_problems(width, (*path, "norm"))

    def plan(self, scope: Scope) -> BlockPlan:
        assert isinstance(self.norm, NormSpec)
        weights = (linear("down", self.rank, scope.width), linear("up", scope.width, self.rank))
        cost = Cost(flops=matmul_flops(weights) + scope.width, activations=scope.width + self.rank)
        children = (("norm", self.norm.plan(scope)),)
        return GatedNormPlan(kind=self.label, weights=weights, cost=cost, children=children, act=self.act)
