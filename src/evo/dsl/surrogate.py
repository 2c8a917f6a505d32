"""What guesses how good candidates are before they are trained: the base of every surrogate's spec."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.spec import Spec


class SurrogateSpec(Spec):
    """A guess at candidates: of several children, the one that is thought best is trained.

    The surrogate itself is made by `evo.evolution.surrogates.base.make_surrogate`.
    """

    builder: ClassVar[str]
    """`module:class` that makes the surrogate of (spec, settings)."""

    pool: Annotated[int, Field(ge=2, le=1_000)] = 4
    """Children that are made for each one that is trained."""
