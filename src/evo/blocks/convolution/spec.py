"""The language and the plan of the short convolution."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import Gene
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops, taps
from evo.dsl.spec import Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ConvolutionPlan(BlockPlan):
    """A short convolution of `size` taps."""

    builder: ClassVar[str] = "evo.blocks.convolution.module:Convolution"
    size: int
    gate: bool
    act: str


class ConvolutionSpec(Spec):
    """o(c * act(conv(b * x))) with b, c, x projections of the input (LFM2); without gates, o(act(conv(x)))."""

    kind: ClassVar[str | None] = "convolution"

    size: Annotated[int, Field(ge=1, le=256), Gene(2, 16, "+1")] = 4
    """Taps: how many tokens each output sees, its own included."""
    gate: bool = True
    """Whether input and output are gated by projections of the input."""
    act: Literal["none", "silu"] = "none"
    """What follows the convolution."""

    @property
    def grows(self) -> frozenset[str]:
        return frozenset({"size"})

    def plan(self, scope: Scope) -> ConvolutionPlan:
        width = scope.width
        streams = ("x", "b", "c") if self.gate else ("x",)
        weights = (
            *(linear(name, width, width) for name in streams),
            taps("taps", width, self.size),
            linear("o", width, width, scope.residual_gain, writes_residual=True),
        )
        cost = Cost(
            flops=matmul_flops(weights),
            state=(self.size - 1) * width,
            activations=width * (3 + 3 * self.gate),
        )
        return ConvolutionPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            has_state=True,
            size=self.size,
            gate=self.gate,
            act=self.act,
        )
