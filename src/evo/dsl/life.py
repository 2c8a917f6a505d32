"""What lives beside the steps of a training: the base of every such spec."""

from typing import ClassVar

from evo.dsl.spec import Spec


class LifeSpec(Spec):
    """How a network changes between the steps of its training, besides what the optimizer does.

    What carries it out is a `Companion` (`evo.blocks.companion`), made by the trainer.
    """

    builder: ClassVar[str]
    """`module:class` that makes the companion of (spec, surroundings)."""
