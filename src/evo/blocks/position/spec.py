"""The language and the plan of position encodings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.position.scaling import ScalingSpec, plain_frequencies
from evo.dsl.genes import DRAWN, Gene
from evo.dsl.plan import BlockPlan, Weight, table
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class NoPositionPlan(BlockPlan):
    """Nothing is done to heads."""

    builder: ClassVar[str] = "evo.blocks.position.module:NoPosition"


@dataclass(frozen=True, kw_only=True)
class RopePlan(BlockPlan):
    """Rotation of pairs by `frequencies` in radians per token; cosine and sine are multiplied by `amplitude`."""

    builder: ClassVar[str] = "evo.blocks.position.module:Rope"
    frequencies: tuple[float, ...]
    amplitude: float


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

    def attention_problems(self, head_dim: int) -> Iterator[Fault]:
        """What keeps it from acting on heads of this width."""
        del head_dim
        return iter(())

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        """What a mixer with these heads does with q, k and the scores."""
        raise NotImplementedError

    def table(self, scope: Scope) -> Weight | None:
        """The vectors that are added to the embedding, (context, width), if there are any."""
        del scope
        return None


def acts_on_heads(position: Spec) -> bool:
    """Whether an encoding acts inside mixers."""
    return isinstance(position, PositionSpec) and position.acts_on in ("queries and keys", "scores")


class RopeSpec(PositionSpec):
    """Rotary position embedding: pairs (i, i + dims / 2) of q and k turn with position (Su et al. 2021)."""

    kind: ClassVar[str | None] = "rope"
    acts_on: ClassVar[ActsOn] = "queries and keys"

    theta: Annotated[float, Field(gt=1), Gene(100, 1e6, "scale")] = 10000.0
    """Base of the wavelengths."""
    dims: Annotated[int | None, Field(ge=2), Gene(4, 128, "x2", optional=True)] = None
    """Rotated dimensions of each head, an even number; all if left out."""
    scaling: Annotated[Spec | None, RoleOf("scaling"), DRAWN] = None
    """A change of the frequencies for long contexts."""

    def attention_problems(self, head_dim: int) -> Iterator[Fault]:
        dims = self.dims or head_dim
        if dims % 2:
            yield Fault("EVO302", ("dims",), f"rope turns pairs: {dims} dimensions of a head are odd")
        if dims > head_dim:
            yield Fault("EVO302", ("dims",), f"rope cannot turn {dims} dimensions of heads of width {head_dim}")
        if isinstance(self.scaling, ScalingSpec) and dims < self.scaling.least_dims:
            message = f"{self.scaling.kind} scaling needs more than {dims} rotated dimensions"
            yield Fault("EVO302", ("scaling",), message)

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        frequencies, amplitude = self.frequencies(head_dim, scope.context)
        return RopePlan(kind=self.label, frequencies=tuple(frequencies), amplitude=amplitude)

    def frequencies(self, head_dim: int, context: int) -> tuple[list[float], float]:
        """The frequency of each rotated pair, and the amplitude of cosine and sine."""
        dims = self.dims or head_dim
        if self.scaling is None:
            return plain_frequencies(self.theta, dims), 1.0
        assert isinstance(self.scaling, ScalingSpec)
        return self.scaling.frequencies(self.theta, dims, context), self.scaling.amplitude()


class AlibiSpec(PositionSpec):
    """ALiBi: scores fall linearly with distance, by slopes 2^(-8 (h + 1) / heads) (Press et al. 2021)."""

    kind: ClassVar[str | None] = "alibi"
    acts_on: ClassVar[ActsOn] = "scores"

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        slopes = tuple(2.0 ** (-8 * (head + 1) / heads) for head in range(heads))
        return AlibiPlan(kind=self.label, slopes=slopes)


class LearnedSpec(PositionSpec):
    """A learned vector for each position of the context, added to the embedding."""

    kind: ClassVar[str | None] = "learned"
    acts_on: ClassVar[ActsOn] = "embedding"

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        return NO_POSITION

    def table(self, scope: Scope) -> Weight:
        return table("position", scope.context, scope.width, 0.02)


class NoPositionSpec(PositionSpec):
    """No encoding: causal masks and recurrences tell order by themselves (Kazemnejad et al. 2023)."""

    kind: ClassVar[str | None] = "none"
    acts_on: ClassVar[ActsOn] = "nothing"

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        return NO_POSITION
