"""Growth: the settings."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.emitter import EmitterSpec
from evo.dsl.selections import SelectionSpec
from evo.dsl.spec import DEFAULT, RoleOf


class GrowthSpec(EmitterSpec):
    """Widens and deepens elites so that a child that inherits computes, at first, what its parent does (Net2Net).

    It adds hidden units, taps, layers, mixers beside mixers, and skip connections, and nothing else; with
    `evolve.inherit` no training is lost.
    """

    kind: ClassVar[str | None] = "growth"
    builder: ClassVar[str] = "evo.evolution.emitters.growth.emitter:Growth"
    is_guided: ClassVar[bool] = True

    selection: Annotated[SelectionSpec, RoleOf("selection", default="tournament")] = DEFAULT
    """Which elites grow."""
    additions: Annotated[int, Field(ge=1, le=100)] = 2
    """The most additions a child."""
    attempts: Annotated[int, Field(ge=1, le=1_000)] = 20
    """How many parents are tried before a slot stays empty."""
