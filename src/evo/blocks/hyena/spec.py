"""The language and the plan of Hyena."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, taps, vector
from evo.dsl.spec import Scope, Spec


@dataclass(frozen=True, kw_only=True)
class FilterLayerPlan(BlockPlan):
    """A linear layer of the network that makes filters."""

    builder: ClassVar[str] = "evo.blocks.hyena.module:FilterLayer"
    runs_once: ClassVar[bool] = True

    @classmethod
    def of(cls, *weights: Weight) -> "FilterLayerPlan":
        """A layer of these weights."""
        return cls(kind="filter layer", weights=weights, cost=Cost(flops=matmul_flops(weights)))


@dataclass(frozen=True, kw_only=True)
class HyenaPlan(BlockPlan):
    """`order` long convolutions of `context` taps over `width` channels, and their gates."""

    builder: ClassVar[str] = "evo.blocks.hyena.module:Hyena"
    ends_with_context: ClassVar[bool] = True
    width: int
    order: int
    conv: int
    bands: int
    shift: float
    context: int


class HyenaSpec(Spec):
    """v <- x_n * (h_n conv v) for n = 1 .. order, filters h_n = window(t) MLP(position t) (Poli et al. 2302.10866)."""

    kind: ClassVar[str | None] = "hyena"

    order: Annotated[int, Field(ge=1, le=16), Gene(1, 4, "+1")] = 2
    """How many long convolutions, each followed by a gate."""
    conv: Annotated[int, Field(ge=1, le=64), Gene(1, 8, "+1")] = 3
    """Taps of the short convolution of every stream."""
    bands: Annotated[int, Field(ge=1, le=128), Gene(1, 16, "+1")] = 2
    """A tap's position is known to the filters' network as t, and cosine and sine of so many frequencies."""
    hidden: Annotated[int, Field(ge=1, le=4096), Gene(8, 64, "x2")] = 32
    """Units of each hidden layer of the filters' network."""
    depth: Annotated[int, Field(ge=1, le=8), Gene(1, 4, "+1")] = 3
    """Its hidden layers, with sines of learned frequency."""
    shift: Annotated[float, Field(ge=0, le=1), FIXED] = 0.0
    """What is added to the window exp(-t |rate|), so that filters reach further than it."""

    def plan(self, scope: Scope) -> HyenaPlan:
        width, streams = scope.width, (self.order + 1) * scope.width
        weights = self._weights(scope, streams)
        length = 2 * scope.context
        transforms = 3 * self.order * width * 5.0 * length * (length.bit_length() - 1) / scope.context
        cost = Cost(
            flops=matmul_flops(weights) + transforms,
            cache_per_token=self.order * width,
            state=(self.conv - 1) * streams,
            activations=2 * width + 3 * streams,
        )
        return HyenaPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=self._filter_layers(width),
            has_state=True,
            width=width,
            order=self.order,
            conv=self.conv,
            bands=self.bands,
            shift=self.shift,
            context=scope.context,
        )

    def _weights(self, scope: Scope, streams: int) -> tuple[Weight, ...]:
        return (
            linear("x", streams, scope.width),
            taps("taps", streams, self.conv),
            vector("taps_bias", streams, ZEROS),
            Weight("skip", (self.order, scope.width), Init("normal", 1.0), ("stack", "channel")),
            linear("o", scope.width, scope.width, scope.residual_gain, writes_residual=True),
            vector("frequency", self.hidden, ONES),
        )

    def _filter_layers(self, width: int) -> tuple[tuple[str, BlockPlan], ...]:
        """The layers of the network that makes the filters, in order; the last has no bias."""
        sizes = [2 * self.bands + 1, *[self.hidden] * self.depth]
        found: list[tuple[str, BlockPlan]] = []
        for index, (into, out) in enumerate(pairwise(sizes)):
            bias = vector("bias", out, Init("uniform", -(into**-0.5), into**-0.5))
            found.append((f"filter{index}", FilterLayerPlan.of(linear("weight", out, into), bias)))
        last = FilterLayerPlan.of(linear("weight", self.order * width, self.hidden))
        return (*found, ("filter_out", last))
