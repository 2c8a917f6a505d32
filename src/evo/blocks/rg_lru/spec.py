"""The language and the plan of the real-gated linear recurrent unit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import ZEROS, Axis, BlockPlan, Cost, Init, Weight, linear, matmul_flops, taps, vector
from evo.dsl.spec import Fault, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class RGLRUPlan(BlockPlan):
    """A scan of `inner` channels, gated in `heads` blocks."""

    builder: ClassVar[str] = "evo.blocks.rg_lru.module:RGLRU"
    inner: int
    heads: int
    conv: int


class RGLRUSpec(Spec):
    """h_t = a_t h_{t-1} + sqrt(1 - a_t²) i_t u_t with log a = -8 r softplus(p) (Griffin, De et al. 2402.19427)."""

    kind: ClassVar[str | None] = "rg_lru"
    widths_apart: ClassVar[bool] = True

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 16, "x2"), WIDENING]
    """Blocks of the gates' block-diagonal matrices."""
    inner: Annotated[
        int | None, Field(ge=1, le=262144), Gene(32, 2048, "scale", multiple=16, optional=True), WIDENING
    ] = None
    """Channels that are scanned; the width if left out."""
    conv: Annotated[int, Field(ge=0, le=64), Gene(0, 8, "+1")] = 4
    """Taps, with a bias, of the convolution of what is scanned; 0 for none."""
    bias: bool = False
    """Biases of the input and output projections (RecurrentGemma)."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        inner = self.inner or scope.width
        if inner % self.heads:
            yield Fault("EVO300", ("heads",), f"{self.heads} heads do not divide {inner} channels", "change heads")

    def plan(self, scope: Scope) -> RGLRUPlan:
        inner = self.inner or scope.width
        weights = self._weights(scope, inner)
        cost = Cost(
            flops=matmul_flops(weights) + 12.0 * inner,
            state=inner + max(self.conv - 1, 0) * inner,
            activations=scope.width + 8 * inner,
        )
        return RGLRUPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            has_state=True,
            inner=inner,
            heads=self.heads,
            conv=self.conv,
        )

    def _weights(self, scope: Scope, inner: int) -> tuple[Weight, ...]:
        width, part = scope.width, inner // self.heads
        draw = Init("normal", part**-0.5)
        axes: tuple[Axis, ...] = ("stack", "out", "in")
        weights = [
            linear("x", inner, width),
            linear("gate", inner, width),
            Weight("input_gate", (self.heads, part, part), draw, axes, "matrix"),
            Weight("decay_gate", (self.heads, part, part), draw, axes, "matrix"),
            Weight("input_gate_bias", (self.heads, part), ZEROS, ("stack", "channel")),
            Weight("decay_gate_bias", (self.heads, part), ZEROS, ("stack", "channel")),
            vector("decay_rate", inner, Init("ring", 0.9, 0.999)),
            linear("o", scope.given, inner, scope.residual_gain, writes_residual=True),
        ]
        if self.conv:
            weights += [taps("taps", inner, self.conv), vector("taps_bias", inner, ZEROS)]
        if self.bias:
            sizes = (("x_bias", inner), ("gate_bias", inner), ("o_bias", scope.given))
            weights += [vector(name, size, ZEROS) for name, size in sizes]
        return tuple(weights)
