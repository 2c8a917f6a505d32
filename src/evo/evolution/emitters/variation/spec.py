"""Mutation and crossover of elites: the settings."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.emitter import EmitterSpec


class VariationSpec(EmitterSpec):
    """Mutates or crosses elites that were drawn from the working archive by tournament."""

    kind: ClassVar[str | None] = "variation"
    builder: ClassVar[str] = "evo.evolution.emitters.variation.emitter:Variation"

    tournament: Annotated[int, Field(ge=1, le=1_000)] = 2
    """Each parent is the best of this many elites drawn uniformly over the occupied cells."""
    attempts: Annotated[int, Field(ge=1, le=1_000)] = 20
    """How many parents, or pairs of them, are tried before a slot stays empty."""
