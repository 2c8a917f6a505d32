"""Upper confidence bounds of a linear model: the settings."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.surrogate import SurrogateSpec


class LinearUCBSpec(SurrogateSpec):
    """Learns what each kind of block and each choice brings, and trains the child that may be best by what is not known
    yet: one with choices that nobody tried comes before one that is thought as good (LinUCB, Li et al. 2010). Guesses
    are bounds, not predictions: they fall as more is known."""

    kind: ClassVar[str | None] = "linear_ucb"
    builder: ClassVar[str] = "evo.evolution.surrogates.linear_ucb.surrogate:LinearUCB"

    pool: Annotated[int, Field(ge=2, le=1_000)] = 16
    """Children that are made for each one that is trained."""
    optimism: Annotated[float, Field(ge=0, le=100)] = 2.0
    """What a standard deviation of the posterior counts beside its mean."""
