"""The language and the plan of the selective scan."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.gated_memory.spec import MemoryName, memory_signals
from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, taps, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class SelectiveScanPlan(BlockPlan):
    """A scan of `inner` channels with `state` values each, whose step passes a width of `rank`."""

    builder: ClassVar[str] = "evo.blocks.selective_scan.module:SelectiveScan"
    inner: int
    state: int
    rank: int
    heads: int
    conv: int


class SelectiveScanSpec(Spec):
    """h_t = exp(d_t A) h_{t-1} + d_t B_t u_t, y_t = C_t h_t + D u_t by channel (Mamba, Gu & Dao 2312.00752)."""

    kind: ClassVar[str | None] = "selective_scan"
    widths_apart: ClassVar[bool] = True

    inner: Annotated[
        int | None, Field(ge=1, le=262144), Gene(32, 2048, "scale", multiple=16, optional=True), WIDENING
    ] = None
    """Channels that are scanned; twice the width if left out."""
    state: Annotated[int, Field(ge=1, le=1024), Gene(4, 64, "x2")] = 16
    """Values that each channel remembers."""
    rank: Annotated[int | None, Field(ge=1, le=65536), Gene(4, 128, "x2", optional=True)] = None
    """Width that the step d passes; width / 16, rounded up, if left out."""
    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 8, "x2")] = 1
    """Equal parts of the channels that each have a step, B and C of their own (Zamba)."""
    conv: Annotated[int, Field(ge=0, le=64), Gene(0, 8, "+1")] = 4
    """Taps of the convolution, with silu, of what is scanned; 0 for none, silu and all."""
    conv_bias: bool = True
    """Whether the convolution has a bias."""
    bias: bool = False
    """Biases of the input and output projections."""
    inner_norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of the narrow step, of B and of C, each (Jamba)."""
    reading_to: MemoryName = None
    """A name under which gated memories may read what it reads from its state."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if isinstance(self.inner_norm, NormSpec):
            rank = self.rank or -(-scope.width // 16)
            for size in (rank, self.state):
                yield from self.inner_norm.slot_problems(size, ("inner_norm",))
        if (self.inner or 2 * scope.width) % self.heads:
            message = f"{self.heads} heads do not divide {self.inner or 2 * scope.width} channels"
            yield Fault("EVO300", ("heads",), message, "change heads or inner")
        if not self.conv and "conv_bias" in self.model_fields_set:
            yield Fault("EVO330", ("conv_bias",), "there is no convolution", "remove it", "warning")

    def plan(self, scope: Scope) -> SelectiveScanPlan:
        inner, rank = self.inner or 2 * scope.width, self.rank or -(-scope.width // 16)
        weights, children = self._weights(scope, inner, rank), self._children(scope, rank)
        cost = Cost(
            flops=matmul_flops(weights) + 7.0 * inner * self.state,
            state=inner * self.state + max(self.conv - 1, 0) * inner,
            activations=scope.width + 6 * inner + 3 * inner * self.state,
        )
        return SelectiveScanPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=children,
            outputs=memory_signals(self.reading_to, inner),
            has_state=True,
            inner=inner,
            state=self.state,
            rank=rank,
            heads=self.heads,
            conv=self.conv,
        )

    def _children(self, scope: Scope, rank: int) -> tuple[tuple[str, BlockPlan], ...]:
        if not isinstance(self.inner_norm, NormSpec):
            return ()
        sizes = (("step_norm", rank), ("b_norm", self.state), ("c_norm", self.state))
        return tuple((name, self.inner_norm.plan(replace(scope, width=size))) for name, size in sizes)

    def _weights(self, scope: Scope, inner: int, rank: int) -> tuple[Weight, ...]:
        width = scope.width
        weights = [
            linear("x", inner, width),
            linear("gate", inner, width),
            *(self._by_head(weight) for weight in self._inner_maps(inner // self.heads, rank)),
            vector("step_bias", inner, Init("timestep", 1e-3, 1e-1)),
            Weight("decay_rate", (inner, self.state), Init("log_count", 1.0), ("channel", "channel")),
            vector("skip", inner, ONES),
            linear("o", scope.given, inner, scope.residual_gain, writes_residual=True),
        ]
        if self.conv:
            weights.append(taps("taps", inner, self.conv))
            if self.conv_bias:
                weights.append(vector("taps_bias", inner, ZEROS))
        if self.bias:
            sizes = (("x_bias", inner), ("gate_bias", inner), ("o_bias", scope.given))
            weights += [vector(name, size, ZEROS) for name, size in sizes]
        return tuple(weights)

    def _inner_maps(self, channels: int, rank: int) -> tuple[Weight, ...]:
        """The maps of one head between its channels and what these are scanned by."""
        bound = rank**-0.5
        return (
            linear("step_down", rank, channels),
            linear("b", self.state, channels),
            linear("c", self.state, channels),
            Weight("step_up", (channels, rank), Init("uniform", -bound, bound), ("out", "in"), "matrix"),
        )

    def _by_head(self, weight: Weight) -> Weight:
        """A map of one head as a stack of those of all, where there are several."""
        if self.heads == 1:
            return weight
        return replace(weight, shape=(self.heads, *weight.shape), axes=("stack", *weight.axes))
