"""Mixers of another package, which no file of evo knows: what they are must follow from what they say of themselves."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.attention.spec import AttentionSpec
from evo.blocks.convolution.spec import ConvolutionSpec
from evo.blocks.parallel.spec import ParallelSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan
from evo.dsl.references import mixer_problems
from evo.dsl.spec import AsTuple, Kind, Many, Names, Problem, Scope, Spec


class RouteSpec(Spec):
    """A composite that is told by its one key, beside `parallel`."""

    kind: ClassVar[str | None] = "route"
    is_keyed: ClassVar[bool] = True

    route: Annotated[tuple[Name | Spec, ...], AsTuple, Many(), Kind("mixer"), Names(), Field(min_length=2)]
    """The mixers."""
    top_k: Annotated[int, Field(ge=1), Gene(1, 4, "+1")] = 1
    """A setting of its own."""

    def problems(self, scope: Scope) -> Iterator[Problem]:
        for index, entry in enumerate(self.route):
            yield from mixer_problems(entry, scope, ("route", index))

    def plan(self, scope: Scope) -> BlockPlan:
        return ParallelSpec(parallel=self.route).plan(scope)


class PairSpec(Spec):
    """A composite that is told by `kind`, of two mixers under keys of their own."""

    kind: ClassVar[str | None] = "pair"

    first: Annotated[Name | Spec, Kind("mixer"), Names()]
    """One mixer."""
    second: Annotated[Name | Spec, Kind("mixer"), Names()]
    """The other."""

    def problems(self, scope: Scope) -> Iterator[Problem]:
        yield from mixer_problems(self.first, scope, ("first",))
        yield from mixer_problems(self.second, scope, ("second",))

    def plan(self, scope: Scope) -> BlockPlan:
        return ParallelSpec(parallel=(self.first, self.second)).plan(scope)


class InheritingSpec(Spec):
    """A mixer that takes the position encoding of its stage, and is no attention."""

    kind: ClassVar[str | None] = "inheriting"

    @property
    def reads_position(self) -> bool:
        return True

    def plan(self, scope: Scope) -> BlockPlan:
        return AttentionSpec(heads=2).plan(scope)


class AheadSpec(ConvolutionSpec):
    """A mixer that sees the future, and has no field that says so."""

    kind: ClassVar[str | None] = "ahead"

    @property
    def is_causal(self) -> bool:
        return False


class BlocksSpec(ConvolutionSpec):
    """A mixer that is called as another role's default kind is."""

    kind: ClassVar[str | None] = "blocks"


class NeedySpec(ConvolutionSpec):
    """A mixer that mutation cannot draw: a required field is fixed."""

    kind: ClassVar[str | None] = "needy"

    file: Annotated[str, FIXED]
    """What nobody can guess."""


KINDS = {cls.kind: cls for cls in (RouteSpec, PairSpec, InheritingSpec, AheadSpec, BlocksSpec, NeedySpec)}
POINTS = {f"mixer.{kind}": f"foreign_mixers:{cls.__name__}" for kind, cls in KINDS.items()}
"""The package's entry points in `evo.kinds`."""
