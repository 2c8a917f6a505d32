"""The language of narrow vectors that queries and outputs pass."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import BlockPlan, Weight, linear
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec


class LowRankSpec(Spec):
    """Queries by way of a narrow vector, as in latent attention, and outputs by way of one a group of heads
    (DeepSeek-V4)."""

    called: ClassVar[str | None] = "these narrow vectors"

    q: Annotated[int | None, Field(ge=1, le=65536), Gene(8, 1024, "x2", optional=True), WIDENING] = None
    """Width that queries pass; they are made of x itself if left out."""
    norm: Annotated[Spec, RoleOf("norm", default="rms"), FIXED] = DEFAULT
    """The norm of what queries are made of."""
    o: Annotated[int | None, Field(ge=1, le=65536), Gene(8, 1024, "x2", optional=True), WIDENING] = None
    """Width that the outputs of each group of heads pass; they are mapped at once if left out."""
    groups: Annotated[int, Field(ge=1, le=1024), Gene(1, 16, "x2")] = 1
    """How many groups heads stand in there, each with a map of its own."""

    @property
    def unread(self) -> frozenset[str]:
        found = [("norm", self.q is None), ("groups", self.o is None)]
        return frozenset(name for name, is_unread in found if is_unread)

    def faults(self, heads: int) -> Iterator[Fault]:
        """What cannot be with so many heads of output; paths are relative to this spec."""
        if self.q is None and self.o is None:
            yield Fault("EVO330", (), "neither queries nor outputs pass a narrow vector", "remove it", "warning")
        if self.o is not None and heads % self.groups:
            divisors = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
            yield Fault(
                "EVO308", ("groups",), f"{self.groups} groups do not divide {heads} heads", f"these do: {divisors}"
            )
        if self.q is not None and isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(self.q, ("norm",))

    def weights(self, width: int, outputs: int) -> list[Weight]:
        """The maps to narrow vectors. outputs: the channels of all heads' outputs."""
        found = [] if self.q is None else [linear("q_down", self.q, width)]
        if self.o is not None:
            one = linear("o_down", self.o, outputs // self.groups)
            found.append(replace(one, shape=(self.groups, *one.shape), axes=("stack", *one.axes)))
        return found

    def children(self, scope: Scope) -> list[tuple[str, BlockPlan]]:
        """The norm of what queries are made of."""
        if self.q is None:
            return []
        assert isinstance(self.norm, NormSpec)
        return [("narrow_norm", self.norm.plan(replace(scope, width=self.q)))]
