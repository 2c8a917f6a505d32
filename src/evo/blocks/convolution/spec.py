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
    residual: bool

    @property
    def can_be_silent(self) -> bool:
        return not self.residual and super().can_be_silent


class ConvolutionSpec(Spec):
    """o(c * act(conv(b * x))) with b, c, x projections of the input (LFM2); without gates, o(act(conv(x))).

    Without maps, act(conv(x)) of the input itself; with a residual, plus the input (a Canon layer, Allen-Zhu 2025).
    """

    kind: ClassVar[str | None] = "convolution"

    size: Annotated[int, Field(ge=1, le=256), Gene(2, 16, "+1")] = 4
    """Taps: how many tokens each output sees, its own included."""
    gate: bool = True
    """Whether input and output are gated by projections of the input."""
    act: Literal["none", "silu"] = "none"
    """What follows the convolution."""
    maps: bool = True
    """Whether there are projections; without them, the taps read the input, and nothing gates."""
    residual: bool = False
    """Whether the input is added to the output."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.maps else frozenset({"gate"})

    @property
    def grows(self) -> frozenset[str]:
        return frozenset({"size"})

    def plan(self, scope: Scope) -> ConvolutionPlan:
        width = scope.width
        streams = () if not self.maps else ("x", "b", "c") if self.gate else ("x",)
        out = (linear("o", width, width, scope.residual_gain, writes_residual=True),) if self.maps else ()
        weights = (*(linear(name, width, width) for name in streams), taps("taps", width, self.size), *out)
        cost = Cost(
            flops=matmul_flops(weights),
            state=(self.size - 1) * width,
            activations=width * ((3 + 3 * self.gate) if self.maps else 2),
        )
        return ConvolutionPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            has_state=True,
            size=self.size,
            gate=self.gate and self.maps,
            act=self.act,
            residual=self.residual,
        )
