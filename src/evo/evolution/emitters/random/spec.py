"""Random search: the settings."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.emitter import EmitterSpec


class RandomSpec(EmitterSpec):
    """Mutants of the seeds, 1 to `mutations` at once at full size, whatever came of earlier ones: a baseline."""

    kind: ClassVar[str | None] = "random"
    builder: ClassVar[str] = "evo.evolution.emitters.random.emitter:Random"

    mutations: Annotated[int, Field(ge=1, le=100)] = 8
    """The most mutations between a seed and its child."""
    attempts: Annotated[int, Field(ge=1, le=1_000)] = 20
    """How many draws are tried before a slot stays empty."""
