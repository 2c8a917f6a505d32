"""What lives beside the steps of a training: the base of every such spec."""

from collections.abc import Iterator
from typing import ClassVar

from evo.dsl.organism import OrganismSpec
from evo.dsl.spec import Fault, Spec


class LifeSpec(Spec):
    """How a network changes between the steps of its training, besides what the optimizer does.

    What carries it out is a `Companion` (`evo.blocks.companion`), made by the trainer.
    """

    builder: ClassVar[str]
    """`module:class` that makes the companion of (spec, surroundings)."""

    def problems_with(self, organism: OrganismSpec, steps: int | None) -> Iterator[Fault]:
        """Faults of meaning that need the organism and how long it is trained (None: by another unit than steps); paths
        start at the document's root."""
        del organism, steps
        return iter(())
