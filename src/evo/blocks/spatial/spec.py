"""The language and the plan of mixing by place."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.acts import Word
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec

ONE_EACH = Init("normal", 1.0)


@dataclass(frozen=True, kw_only=True)
class SpatialPlan(BlockPlan):
    """`inner` channels in `heads` parts, mixed by weights that are learned for each place of the context."""

    builder: ClassVar[str] = "evo.blocks.spatial.module:Spatial"
    ends_with_context: ClassVar[bool] = True
    heads: int
    inner: int
    by: str
    weigh: str
    act: str
    gate_act: str
    context: int
    keys: bool
    window: int | None


class SpatialSpec(Spec):
    """o(g(x_t) * (sum over s <= t of w_ts v_s + b_t)), w learned and the same for every text (gMLP, Liu et al.
    2105.08050; random synthesizers, Tay et al. 2005.00743). With `keys`, tokens weigh too (Attention Free Transformer,
    Zhai et al. 2105.14103).
    """

    kind: ClassVar[str | None] = "spatial"

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 16, "x2")] = 1
    """Equal parts of the channels, each with weights of its own."""
    inner: Annotated[int | None, Field(ge=1, le=262144), Gene(32, 2048, "scale", optional=True, multiple=8)] = None
    """Channels that are mixed; the width if left out."""
    by: Literal["places", "distance", "nothing"] = "places"
    """Whether there is a weight for every two places of the context, or for every distance (a Toeplitz matrix);
    nothing: all places weigh alike."""
    weigh: Literal["plain", "softmax"] = "plain"
    """plain: weights as they are, and a bias for each place, 1 at first; softmax: of a token's weights, and no bias."""
    keys: bool = False
    """Whether a map of each earlier token is added to its weights before their softmax, channel by channel."""
    window: Annotated[int | None, Field(ge=1, le=65536), Gene(8, 128, "x2", optional=True)] = None
    """How many of the latest places have weights, the token's own included; those before them weigh 0, which with
    softmax they are still seen by (AFT-local). All have if left out."""
    rank: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 128, "x2", optional=True)] = None
    """Width of two vectors of each place whose products are the weights of places; these are free if left out."""
    normed: bool = False
    """Whether the weights of each head's distances are normalised, their mean taken away and over their deviation,
    times a learned gain and plus a learned bias, both 0 at first (AFT-conv)."""
    act: Word = "gelu"
    """The activation of values."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of the values that are mixed."""
    gate: bool = True
    """Whether what is mixed is multiplied by an activated map of x."""
    gate_act: Annotated[Word, FIXED] = "gelu"
    """The activation of the gate."""

    @property
    def unread(self) -> frozenset[str]:
        found = {
            "gate_act": not self.gate,
            "keys": self.weigh == "plain",
            "window": self.by == "nothing",
            "rank": self.by != "places",
            "normed": self.by != "distance",
        }
        return frozenset(name for name, is_unread in found.items() if is_unread)

    def problems(self, scope: Scope) -> Iterator[Fault]:
        inner = self.inner or scope.width
        if inner % self.heads:
            message = f"{self.heads} heads do not divide {inner} channels"
            yield Fault("EVO300", ("heads",), message, "change heads, or set inner")
        if self.by == "nothing" and self.weigh == "plain":
            message = "where no place has a weight, nothing is mixed"
            yield Fault("EVO308", ("by",), message, "write weigh: softmax, or by: distance")
        if self.window is not None and self.by != "nothing" and self.window >= scope.context:
            message = f"all places of a context of {scope.context} have weights anyway"
            yield Fault("EVO331", ("window",), message, "make it smaller, or leave it out", "warning")
        if self.normed and self.by == "distance" and self._last(scope.context) == 1:
            yield Fault(
                "EVO308", ("normed",), "a single weight is its own mean", "raise window, or write normed: false"
            )
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(inner, ("norm",))

    def plan(self, scope: Scope) -> SpatialPlan:
        width, inner, context = scope.width, self.inner or scope.width, scope.context
        maps = [linear("v", inner, width)]
        has_keys = self.keys and self.weigh == "softmax"
        maps += [linear("k", inner, width)] if has_keys else []
        maps += [linear("gate", inner, width)] if self.gate else []
        maps.append(linear("o", width, inner, scope.residual_gain, writes_residual=True))
        children: tuple[tuple[str, BlockPlan], ...] = ()
        if isinstance(self.norm, NormSpec):
            children = (("norm", self.norm.plan(replace(scope, width=inner))),)
        pairs = (context + 1) / 2
        return SpatialPlan(
            kind=self.label,
            weights=(*maps, *self._places(context)),
            cost=Cost(
                flops=matmul_flops(tuple(maps)) + 2.0 * (1 + has_keys) * inner * pairs + self._rank_flops(pairs),
                cache_per_token=inner * (1 + has_keys),
                activations=width + inner * ((4 if self.gate else 2) + 2 * has_keys),
            ),
            children=children,
            has_state=True,
            heads=self.heads,
            inner=inner,
            by=self.by,
            weigh=self.weigh,
            act=self.act,
            gate_act=self.gate_act if self.gate else "",
            context=context,
            keys=has_keys,
            window=None if self.by == "nothing" else self.window,
        )

    def _last(self, context: int) -> int:
        """How many of the latest places have weights."""
        return min(self.window or context, context)

    def _rank_flops(self, pairs: float) -> float:
        """Of products of vectors of places."""
        return 2.0 * self.heads * self.rank * pairs if self.rank is not None and self.by == "places" else 0.0

    def _places(self, context: int) -> list[Weight]:
        """The weights of places or distances, near 0 at first, and biases."""
        start, last = Init("normal", 0.02), self._last(context)
        found: list[Weight] = []
        if self.by == "places" and self.rank is not None:
            shape, near = (self.heads, context, self.rank), Init("normal", 0.1 * self.rank**-0.25)
            found = [Weight(name, shape, near, ("stack", "rows", "channel")) for name in ("places_to", "places_from")]
        elif self.by == "places":
            found = [Weight("places", (self.heads, context, last), start, ("stack", "rows", "channel"))]
        elif self.by == "distance":
            start = ONE_EACH if self.normed else start
            found = [Weight("places", (self.heads, last), start, ("stack", "channel"))]
            shifted = self.weigh == "plain" or last < context  # softmax takes away what all places have
            learned = ("gain", "shift") if shifted else ("gain",)
            found += [vector(f"place_{name}", self.heads, ZEROS) for name in learned] if self.normed else []
        if self.weigh == "plain":
            found.append(Weight("place_bias", (self.heads, context), ONES, ("stack", "channel")))
        return found
