"""Mutation and crossover of elites: the settings."""

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.emitter import EmitterSpec
from evo.dsl.evolve import EvolveSpec
from evo.dsl.selections import SelectionSpec
from evo.dsl.spec import DEFAULT, RoleOf


class BreedingSpec(EmitterSpec):
    """The base of emitters whose children come of elites of the working archive."""

    builder: ClassVar[str] = "evo.evolution.emitters.variation.emitter:Variation"
    is_guided: ClassVar[bool] = True

    selection: Annotated[SelectionSpec, RoleOf("selection", default="tournament")] = DEFAULT
    """Which elites breed."""
    thrift: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of children that may cost no more FLOPs a token than their first parent. Operators add more often than
    they take away, and at equal training compute what costs more reads less."""
    attempts: Annotated[int, Field(ge=1, le=1_000)] = 20
    """How many parents, or pairs of them, are tried before a slot stays empty."""

    @abstractmethod
    def share(self, evolve: EvolveSpec) -> float:
        """The share of children with two parents."""


class VariationSpec(BreedingSpec):
    """Mutates or crosses elites, crossing with the search's share of crossover."""

    kind: ClassVar[str | None] = "variation"

    def share(self, evolve: EvolveSpec) -> float:
        """As the search says."""
        return evolve.crossover


class MutationSpec(BreedingSpec):
    """Mutates elites and never crosses them."""

    kind: ClassVar[str | None] = "mutation"

    def share(self, evolve: EvolveSpec) -> float:
        """None."""
        del evolve
        return 0.0


class CrossoverSpec(BreedingSpec):
    """Crosses elites, and mutates one where the same is picked twice."""

    kind: ClassVar[str | None] = "crossover"

    def share(self, evolve: EvolveSpec) -> float:
        """All."""
        del evolve
        return 1.0


class ArchiveImprovementSpec(VariationSpec):
    """Mutates or crosses the elites whose children improve the archive most."""

    kind: ClassVar[str | None] = "archive_improvement"

    selection: Annotated[SelectionSpec, RoleOf("selection", default="improvement")] = DEFAULT
    """Which elites breed."""


class NoveltySpec(VariationSpec):
    """Mutates or crosses the elites that stand farthest from the others."""

    kind: ClassVar[str | None] = "novelty"

    selection: Annotated[SelectionSpec, RoleOf("selection", default="novelty")] = DEFAULT
    """Which elites breed."""
