"""The language and the plan of a linear map."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.acts import Word
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, linear, matmul_flops, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec

LEARNS_AT_ZERO = ("identity", "silu", "gelu", "gelu_tanh", "gelu_quick", "tanh")
"""Activations that are 0 at 0, and rise there."""


@dataclass(frozen=True, kw_only=True)
class LinearPlan(BlockPlan):
    """A linear map, of a low rank or of any."""

    builder: ClassVar[str] = "evo.blocks.linear.module:Linear"
    rank: int | None
    residual: bool
    act: str

    @property
    def can_be_silent(self) -> bool:
        return not self.residual and self.act in LEARNS_AT_ZERO and super().can_be_silent


class LinearSpec(Spec):
    """act(norm(W x)), or act(norm(U V x)) of a low rank, perhaps beside x (LAuReL, Menghani et al. 2411.07501; Zamba,
    where nothing is activated)."""

    kind: ClassVar[str | None] = "linear"
    stacks: ClassVar[bool] = True
    widths_apart: ClassVar[bool] = True

    rank: Annotated[int | None, Field(ge=1, le=65536), Gene(4, 256, "x2", optional=True)] = None
    """Channels that U and V meet in; one map of full rank if left out."""
    bias: bool = False
    """A bias of the output."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of the output."""
    act: Word = "identity"
    """What the output passes in the end."""
    residual: Annotated[bool, FIXED] = False
    """Whether the input is added to it."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(scope.given, ("norm",))
        if self.residual and scope.given != scope.width:
            yield Fault("EVO306", ("residual",), "the input has another width than what is given", "remove it")

    def plan(self, scope: Scope) -> LinearPlan:
        into = self.rank or scope.width
        weights = [] if self.rank is None else [linear("inner", into, scope.width)]
        weights.append(linear("o", scope.given, into, scope.residual_gain, writes_residual=True))
        if self.bias:
            weights.append(vector("o_bias", scope.given, ZEROS))
        cost = Cost(flops=matmul_flops(tuple(weights)), activations=scope.width + (self.rank or 0))
        norm = self.norm
        children = (("norm", norm.plan(replace(scope, width=scope.given))),) if isinstance(norm, NormSpec) else ()
        return LinearPlan(
            kind=self.label,
            weights=tuple(weights),
            cost=cost,
            children=children,
            rank=self.rank,
            residual=self.residual,
            act=self.act,
        )
