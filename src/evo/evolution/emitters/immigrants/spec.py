"""Fresh draws: the settings."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.emitter import EmitterSpec


class ImmigrantsSpec(EmitterSpec):
    """Organisms with stages drawn afresh instead of a seed's, and some mutations of everything else."""

    kind: ClassVar[str | None] = "immigrants"
    builder: ClassVar[str] = "evo.evolution.emitters.immigrants.emitter:Immigrants"

    stages: Annotated[int, Field(ge=1, le=64)] = 6
    """The most stages, of one layer each."""
    mutations: Annotated[int, Field(ge=1, le=100)] = 4
    """The most mutations after that."""
    attempts: Annotated[int, Field(ge=1, le=1_000)] = 100
    """How many draws are tried before a slot stays empty."""
