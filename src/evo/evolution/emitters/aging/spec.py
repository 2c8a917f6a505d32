"""Regularised evolution: the settings."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.emitter import EmitterSpec


class AgingSpec(EmitterSpec):
    """Regularised evolution (Real et al. 2019): the best of a sample of the youngest has a mutant, the oldest go.

    Until there are `size` candidates, children are random mutants of the seeds. The archive has no say.
    """

    kind: ClassVar[str | None] = "aging"
    builder: ClassVar[str] = "evo.evolution.emitters.aging.emitter:Aging"

    size: Annotated[int, Field(ge=2, le=100_000)] = 20
    """How many of the youngest scored candidates are alive."""
    sample: Annotated[int, Field(ge=1, le=100_000)] = 5
    """How many of them are drawn, with replacement; the best breeds."""
    founders: Annotated[int, Field(ge=1, le=100)] = 8
    """The most mutations between a seed and a founder."""
    attempts: Annotated[int, Field(ge=1, le=1_000)] = 20
    """How many draws are tried before a slot stays empty."""
