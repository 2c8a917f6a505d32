"""The language and the plan of position encodings."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.position.scaling import ScalingSpec, plain_frequencies
from evo.dsl.genes import Gene
from evo.dsl.plan import BlockPlan, Scope, Weight, table
from evo.dsl.spec import Kind, Problem, Spec

NO_POSITION = BlockPlan("none", "evo.blocks.position.module:NoPosition")


class PositionSpec(Spec):
    """A position encoding."""

    acts_on: ClassVar[str] = "heads"
    """`heads`: inside a mixer, on q and k or on the scores; `embedding`: added to it; `nothing`."""

    def attention_problems(self, head_dim: int) -> Iterator[Problem]:
        """What keeps it from acting on heads of this width."""
        del head_dim
        return iter(())

    def max_positions(self, scope: Scope) -> int | None:
        """How many positions it can tell apart; None where there is no last one."""
        del scope
        return None

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        """What a mixer with these heads does with q, k and the scores."""
        raise NotImplementedError


class RopeSpec(PositionSpec):
    """Rotary position embedding: pairs (i, i + dims / 2) of q and k turn with position (Su et al. 2021)."""

    kind: ClassVar[str | None] = "rope"

    theta: Annotated[float, Field(gt=1), Gene(100, 1e6, "scale")] = 10000.0
    """Base of the wavelengths."""
    dims: Annotated[int | None, Field(ge=2), Gene(4, 128, "x2", optional=True)] = None
    """Rotated dimensions of each head, an even number; all if left out."""
    scaling: Annotated[Spec | None, Kind("scaling")] = None
    """A change of the frequencies for long contexts."""

    def attention_problems(self, head_dim: int) -> Iterator[Problem]:
        dims = self.dims or head_dim
        if dims % 2:
            yield Problem("EVO302", ("dims",), f"rope turns pairs: {dims} dimensions of a head are odd")
        if dims > head_dim:
            yield Problem("EVO302", ("dims",), f"rope cannot turn {dims} dimensions of heads of width {head_dim}")
        if self.scaling is not None and self.scaling.kind == "ntk" and dims == 2:
            yield Problem("EVO302", ("scaling",), "ntk scaling needs more than 2 rotated dimensions")

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        frequencies, amplitude = self.frequencies(head_dim, scope.context)
        settings = {"frequencies": tuple(frequencies), "amplitude": amplitude}
        return BlockPlan("rope", "evo.blocks.position.module:Rope", settings)

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

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        slopes = tuple(2.0 ** (-8 * (head + 1) / heads) for head in range(heads))
        return BlockPlan("alibi", "evo.blocks.position.module:Alibi", {"slopes": slopes})


class LearnedSpec(PositionSpec):
    """A learned vector for each position of the context, added to the embedding."""

    kind: ClassVar[str | None] = "learned"
    acts_on: ClassVar[str] = "embedding"

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        return NO_POSITION

    def max_positions(self, scope: Scope) -> int:
        return scope.context

    def table(self, scope: Scope) -> Weight:
        """The vectors, (context, width)."""
        return table("position", scope.context, scope.width, 0.02)


class NoPositionSpec(PositionSpec):
    """No encoding: causal masks and recurrences tell order by themselves (Kazemnejad et al. 2023)."""

    kind: ClassVar[str | None] = "none"
    acts_on: ClassVar[str] = "nothing"

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        return NO_POSITION
