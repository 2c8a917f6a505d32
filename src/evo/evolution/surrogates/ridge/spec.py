"""Ridge regression over what plans say: the settings."""

from typing import ClassVar

from evo.dsl.surrogate import SurrogateSpec


class RidgeSpec(SurrogateSpec):
    """Learns the objective from what was trained so far: sizes, costs, shares of kinds of blocks, training settings."""

    kind: ClassVar[str | None] = "ridge"
    builder: ClassVar[str] = "evo.evolution.surrogates.ridge.surrogate:Ridge"
