"""The language and the plans of RWKV-4's two blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.feedforward.spec import Hidden, Ratio, hidden_size
from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Fault, Scope, Spec

HALF = Init("uniform", 0.0, 1.0)
"""How much of a token, and not of the one before it, a channel reads."""


@dataclass(frozen=True, kw_only=True)
class WKVPlan(BlockPlan):
    """A mean of `inner` channels."""

    builder: ClassVar[str] = "evo.blocks.wkv.module:WKV"
    inner: int


class WKVSpec(Spec):
    """A mean of past values by weights exp(key - decay * distance), by channel, gated (RWKV-4, Peng et al. 2023)."""

    kind: ClassVar[str | None] = "wkv"

    inner: Annotated[
        int | None, Field(ge=1, le=262144), Gene(32, 2048, "scale", multiple=16, optional=True), WIDENING
    ] = None
    """Channels that are averaged; the width if left out."""

    def plan(self, scope: Scope) -> WKVPlan:
        width, inner = scope.width, self.inner or scope.width
        weights = (
            *(vector(f"{name}_mix", width, HALF) for name in "rkv"),
            *(linear(name, inner, width) for name in "rkv"),
            vector("decay_rate", inner, Init("ramp", -5.0, 3.0)),
            vector("bonus", inner, Init("normal", 0.3)),
            linear("o", width, inner, scope.residual_gain, writes_residual=True),
        )
        cost = Cost(
            flops=matmul_flops(weights) + 12.0 * inner,
            state=width + 3 * inner,
            activations=4 * width + 9 * inner,
        )
        return WKVPlan(kind=self.label, weights=weights, cost=cost, has_state=True, inner=inner)


@dataclass(frozen=True, kw_only=True)
class ChannelMixPlan(BlockPlan):
    """RWKV's feed-forward of `hidden` units."""

    builder: ClassVar[str] = "evo.blocks.wkv.channel_mix:ChannelMix"
    hidden: int


class ChannelMixSpec(Spec):
    """sigmoid(r(x_r)) * v(relu(k(x_k))²), each x_* a mixture of a token and the one before it (RWKV)."""

    kind: ClassVar[str | None] = "channel_mix"

    ratio: Ratio = 4.0
    """Hidden width over width; the product is rounded to a multiple of 8."""
    hidden: Hidden = None
    """The exact hidden width, instead of `ratio`."""
    gate: bool = True
    """Whether the output is gated by sigmoid(r(x_r)) (RWKV-4 to 6; RWKV-7 has no gate)."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.hidden is not None and "ratio" in self.model_fields_set:
            yield Fault("EVO330", ("ratio",), "`hidden` says the width", "remove one of the two", "warning")

    def plan(self, scope: Scope) -> ChannelMixPlan:
        width, hidden = scope.width, self.hidden or hidden_size(scope.width, self.ratio)
        weights: list[Weight] = [
            vector("k_mix", width, HALF),
            linear("k", hidden, width),
            linear("v", width, hidden, scope.residual_gain, writes_residual=True),
        ]
        if self.gate:
            weights += [vector("r_mix", width, HALF), linear("r", width, width)]
        cost = Cost(flops=matmul_flops(tuple(weights)), state=width, activations=3 * width + 2 * hidden)
        return ChannelMixPlan(kind=self.label, weights=tuple(weights), cost=cost, has_state=True, hidden=hidden)
