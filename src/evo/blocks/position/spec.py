"""The language and the plan of position encodings."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.position.scaling import ScalingSpec, plain_frequencies
from evo.dsl.genes import DRAWN, FIXED, Gene
from evo.dsl.plan import BlockPlan, Cost, Weight, table
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class NoPositionPlan(BlockPlan):
    """Nothing is done to heads."""

    builder: ClassVar[str] = "evo.blocks.position.module:NoPosition"


@dataclass(frozen=True, kw_only=True)
class RopePlan(BlockPlan):
    """Rotation of pairs by `frequencies` in radians per token; cosine and sine are multiplied by `amplitude`.

    decays: by what power of e, per token, each pair of a query grows and of a key falls (xPos), from position `center`.
    neighbours: whether a pair is two channels side by side. last: whether the last channels turn and not the first.
    """

    builder: ClassVar[str] = "evo.blocks.position.module:Rope"
    frequencies: tuple[float, ...]
    amplitude: float
    neighbours: bool = False
    last: bool = False
    decays: tuple[float, ...] = ()
    center: int = 0


@dataclass(frozen=True, kw_only=True)
class SinusoidPlan(BlockPlan):
    """Sines and cosines of positions times `frequencies`, the first of them at position `offset`."""

    builder: ClassVar[str] = "evo.blocks.position.module:Sinusoids"
    frequencies: tuple[float, ...]
    offset: int
    alternating: bool
    width: int


@dataclass(frozen=True, kw_only=True)
class AlibiPlan(BlockPlan):
    """Scores that fall by `slopes` per token of distance, a slope for each head."""

    builder: ClassVar[str] = "evo.blocks.position.module:Alibi"
    slopes: tuple[float, ...]


NO_POSITION = NoPositionPlan(kind="none")

ActsOn = Literal["queries and keys", "scores", "embedding", "nothing"]


class PositionSpec(Spec):
    """A position encoding."""

    acts_on: ClassVar[ActsOn]
    """What it changes: queries and keys, or scores, inside a mixer; the embedding, to which it is added; or nothing."""
    adds_bias: ClassVar[bool] = False
    """Whether it adds to scores what more than a slope says: attention alone knows how."""
    is_one_sided: ClassVar[bool] = True
    """Whether it has nothing to say of later keys; matters where `adds_bias`."""
    counts_keys: ClassVar[bool] = False
    """Whether what it adds depends on the keys between a query and another, all of which it must see then."""

    widens: ClassVar[int] = 1
    """How many times as wide it makes queries and keys: attention alone knows how to keep them."""

    def attention_problems(self, head_dim: int) -> Iterator[Fault]:
        """What keeps it from acting on heads of this width."""
        del head_dim
        return iter(())

    def first_turned(self, head_dim: int) -> int:
        """The first channel of a head that it turns; `head_dim` if it turns none."""
        return 0 if self.acts_on == "queries and keys" else head_dim

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        """What a mixer with these heads does with q, k and the scores."""
        raise NotImplementedError

    def table(self, scope: Scope) -> Weight | None:
        """The learned vectors that are added to the embedding, (context, width), if there are any."""
        del scope
        return None

    def order(self, scope: Scope) -> BlockPlan | None:
        """The plan of an `Order`, fixed vectors that are added to the embedding, if there are any."""
        del scope
        return None


def acts_on_heads(position: Spec) -> bool:
    """Whether an encoding acts inside mixers."""
    return isinstance(position, PositionSpec) and position.acts_on in ("queries and keys", "scores")


class RopeSpec(PositionSpec):
    """Rotary position embedding: pairs of channels of q and k turn with position (Su et al. 2021)."""

    kind: ClassVar[str | None] = "rope"
    acts_on: ClassVar[ActsOn] = "queries and keys"

    theta: Annotated[float, Field(gt=1), Gene(100, 1e6, "scale")] = 10000.0
    """Base of the wavelengths."""
    dims: Annotated[int | None, Field(ge=2), Gene(4, 128, "x2", optional=True)] = None
    """Rotated dimensions of each head, an even number; all if left out."""
    scaling: Annotated[Spec | None, RoleOf("scaling"), DRAWN] = None
    """A change of the frequencies for long contexts."""
    pairs: Annotated[Literal["halves", "neighbours"], FIXED] = "halves"
    """Whether channel i is paired with i + dims / 2 (Llama), or with the one beside it (GPT-J)."""
    at: Annotated[Literal["first", "last"], FIXED] = "first"
    """Which channels of a head are rotated, where not all are."""
    decay: Annotated[float | None, Field(gt=0, le=1e9), FIXED] = None
    """Scores of pair i of R fall by ((i / R + 0.4) / 1.4)^(distance / decay) (xPos, Sun et al. 2022: 512)."""
    backwards: Annotated[bool, FIXED] = False
    """Whether pairs turn the other way (nanochat)."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset({"at"}) if self.dims is None else frozenset()

    def attention_problems(self, head_dim: int) -> Iterator[Fault]:
        dims = self.dims or head_dim
        if dims % 2:
            message = f"rope turns pairs: {dims} dimensions of a head are odd"
            yield Fault("EVO302", ("dims",), message, self._even(dims, head_dim))
        if dims > head_dim:
            message = f"rope cannot turn {dims} dimensions of heads of width {head_dim}"
            yield Fault("EVO302", ("dims",), message, f"{head_dim} at most, or fewer heads")
        if isinstance(self.scaling, ScalingSpec) and dims < self.scaling.least_dims:
            message = f"{self.scaling.kind} scaling needs more than {dims} rotated dimensions"
            help = f"{self.scaling.least_dims} at least, in wider heads, or another scaling"
            yield Fault("EVO302", ("scaling",), message, help)
        elif isinstance(self.scaling, ScalingSpec) and (fault := self.scaling.faults(dims)):
            yield Fault("EVO302", ("scaling",), fault, "write one for each pair, or another scaling")

    def first_turned(self, head_dim: int) -> int:
        return head_dim - (self.dims or head_dim) if self.at == "last" else 0

    def _even(self, dims: int, head_dim: int) -> str:
        """How an odd number of dimensions is mended."""
        if self.dims is not None:
            return f"{min(dims, head_dim) // 2 * 2 or 2}, or another even number"
        fewer = f"dims: {head_dim // 2 * 2} under the position, or " if head_dim > 1 else ""
        return f"{fewer}heads of an even width"

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        frequencies, amplitude = self.frequencies(head_dim, scope.context)
        return RopePlan(
            kind=self.label,
            frequencies=tuple(-frequency if self.backwards else frequency for frequency in frequencies),
            amplitude=amplitude,
            neighbours=self.pairs == "neighbours",
            last=self.at == "last",
            decays=self._decays(len(frequencies)),
            center=0 if self.decay is None else scope.context // 2,
        )

    def _decays(self, pairs: int) -> tuple[float, ...]:
        if self.decay is None:
            return ()
        return tuple(math.log((i / pairs + 0.4) / 1.4) / self.decay for i in range(pairs))

    def frequencies(self, head_dim: int, context: int) -> tuple[list[float], float]:
        """The frequency of each rotated pair, and the amplitude of cosine and sine."""
        dims = self.dims or head_dim
        if self.scaling is None:
            return plain_frequencies(self.theta, dims), 1.0
        assert isinstance(self.scaling, ScalingSpec)
        return self.scaling.frequencies(self.theta, dims, context), self.scaling.amplitude()


class AlibiSpec(PositionSpec):
    """ALiBi: scores fall linearly with distance, by a slope for each head (Press et al. 2021)."""

    kind: ClassVar[str | None] = "alibi"
    acts_on: ClassVar[ActsOn] = "scores"

    scale: Annotated[float, Field(gt=0, le=1e6), FIXED] = 1.0
    """What slopes are multiplied by."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        return AlibiPlan(kind=self.label, slopes=tuple(slope * self.scale for slope in slopes_of(heads)))


def slopes_of(heads: int) -> list[float]:
    """2^(-8 (h + 1) / heads) for a power of two; else those of the power below, then every other one of twice as many.

    So in Press et al.'s own code and in BLOOM; MPT says the same in other words.
    """
    below = 1 << (heads.bit_length() - 1)
    own, finer = ([2.0 ** (-8 * (head + 1) / count) for head in range(count)] for count in (below, 2 * below))
    return [*own, *finer[0::2]][:heads]


class LearnedSpec(PositionSpec):
    """A learned vector for each position of the context, added to the embedding."""

    kind: ClassVar[str | None] = "learned"
    acts_on: ClassVar[ActsOn] = "embedding"

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        return NO_POSITION

    def table(self, scope: Scope) -> Weight:
        return table("position", scope.context, scope.width, 0.02)


class SinusoidSpec(PositionSpec):
    """Sines and cosines of the position in geometric frequencies, added to the embedding (Vaswani et al. 2017)."""

    kind: ClassVar[str | None] = "sinusoid"
    acts_on: ClassVar[ActsOn] = "embedding"

    theta: Annotated[float, Field(gt=1), Gene(100, 1e6, "scale")] = 10000.0
    """Base of the wavelengths."""
    layout: Annotated[Literal["halves", "alternating"], FIXED] = "alternating"
    """Whether all sines come before all cosines, or each sine before its cosine."""
    steps: Annotated[Literal["width", "ends"], FIXED] = "width"
    """Whether frequency i of R is theta^(-i / R), or theta^(-i / (R - 1)), which reaches the end (fairseq)."""
    offset: Annotated[int, Field(ge=0, le=1000), FIXED] = 0
    """Which position the first token has."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        return NO_POSITION

    def order(self, scope: Scope) -> BlockPlan:
        pairs = scope.width // 2
        last = pairs if self.steps == "width" else max(pairs - 1, 1)
        frequencies = tuple(self.theta ** (-i / last) for i in range(pairs))
        return SinusoidPlan(
            kind=self.label,
            cost=Cost(flops=float(scope.width)),
            frequencies=frequencies,
            offset=self.offset,
            alternating=self.layout == "alternating",
            width=scope.width,
        )


class NoPositionSpec(PositionSpec):
    """No encoding: causal masks and recurrences tell order by themselves (Kazemnejad et al. 2023)."""

    kind: ClassVar[str | None] = "none"
    acts_on: ClassVar[ActsOn] = "nothing"

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        return NO_POSITION
