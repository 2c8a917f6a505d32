"""The language and the plan of convolutions whose taps tokens make."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import BlockPlan, Cost, Weight, linear, matmul_flops
from evo.dsl.plan import taps as taps_of
from evo.dsl.spec import Fault, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class DynamicConvolutionPlan(BlockPlan):
    """`inner` channels in `heads` parts, each with `size` taps of its own at every token."""

    builder: ClassVar[str] = "evo.blocks.dynamic_convolution.module:DynamicConvolution"
    heads: int
    inner: int
    size: int
    weigh: str


class DynamicConvolutionSpec(Spec):
    """o(sum over i of w_ti v_(t-i)), v gated values and w taps that the token makes (dynamic convolutions, Wu et al.
    1901.10430); learned ones make it their lightweight convolution."""

    kind: ClassVar[str | None] = "dynamic_convolution"

    heads: Annotated[int, Field(ge=1, le=65536), Gene(1, 32, "x2"), WIDENING] = 4
    """Equal parts of the channels, each with taps of its own."""
    inner: Annotated[
        int | None, Field(ge=1, le=262144), Gene(32, 2048, "scale", multiple=32, optional=True), WIDENING
    ] = None
    """Channels that are convolved; the width if left out."""
    size: Annotated[int, Field(ge=2, le=256), Gene(2, 32, "+1")] = 7
    """Taps: how many tokens each output sees, its own included."""
    by: Literal["token", "learned"] = "token"
    """Whether taps are a map of the token, or the same for all."""
    weigh: Literal["softmax", "plain"] = "softmax"
    """Whether taps are the softmax of these numbers, or the numbers."""
    rank: Annotated[int | None, Field(ge=1, le=65536), Gene(4, 64, "x2", optional=True)] = None
    """Width of a silu layer between token and taps (Jet-Nemotron, 2508.15884); one map if left out."""
    gate: bool = True
    """Whether values are gated by the sigmoid of a map of x."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset({"rank"}) if self.by == "learned" else frozenset()

    def problems(self, scope: Scope) -> Iterator[Fault]:
        inner = self.inner or scope.width
        if inner % self.heads:
            message = f"{self.heads} heads do not divide {inner} channels"
            yield Fault("EVO300", ("heads",), message, "change heads, or set inner")

    def plan(self, scope: Scope) -> DynamicConvolutionPlan:
        width, inner = scope.width, self.inner or scope.width
        maps = [linear("v", inner, width), *([linear("gate", inner, width)] if self.gate else [])]
        maps += self._taps(width)
        maps.append(linear("o", width, inner, scope.residual_gain, writes_residual=True))
        made = 5.0 * self.heads * self.size if self.weigh == "softmax" else 0.0
        matrices = tuple(weight for weight in maps if weight.is_linear)
        return DynamicConvolutionPlan(
            kind=self.label,
            weights=tuple(maps),
            cost=Cost(
                flops=matmul_flops(matrices) + 2.0 * inner * self.size + made + (2.0 * inner if self.gate else 0.0),
                state=(self.size - 1) * inner,
                activations=width + inner * (4 if self.gate else 2) + 2 * self.heads * self.size + (self.rank or 0),
            ),
            has_state=True,
            heads=self.heads,
            inner=inner,
            size=self.size,
            weigh=self.weigh,
        )

    def _taps(self, width: int) -> list[Weight]:
        """What makes taps, or the taps."""
        if self.by == "learned":
            return [taps_of("taps", self.heads, self.size)]
        if self.rank is None:
            return [linear("make", self.heads * self.size, width)]
        return [linear("make_down", self.rank, width), linear("make", self.heads * self.size, self.rank)]
