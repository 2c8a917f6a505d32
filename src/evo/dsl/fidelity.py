"""How long a candidate is trained: the rungs of a search, and who climbs from one to the next."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from evo.dsl.spec import Spec

if TYPE_CHECKING:
    from evo.dsl.document import Document


class FidelitySpec(Spec):
    """The rungs of a search. A trial at a rung goes on from the weights that the candidate had at the rung below."""

    @abstractmethod
    def steps(self, document: "Document", rung: int) -> int:
        """Training steps of a candidate up to the end of a rung, those of the rungs below included; they rise."""

    @abstractmethod
    def promote(self, rungs: Sequence[Mapping[str, float]]) -> list[tuple[str, int]]:
        """The (candidate, rung) pairs to be run next, none twice; empty ends the generation.

        A pure function, so that a resumed run decides the same. It is asked whenever all trials are evaluated.

        Args:
            rungs: for each rung from 0, candidate -> the cost of its trial: the primary score with its sign such that
                less is better, infinite for a failure. In the order in which trials were asked for, all generations.
        """


class SingleFidelity(FidelitySpec):
    """One rung: every candidate is trained as its document says."""

    kind: ClassVar[str | None] = "single"

    def steps(self, document: "Document", rung: int) -> int:
        """The document's own steps, at the only rung."""
        del rung
        return document.train.steps

    def promote(self, rungs: Sequence[Mapping[str, float]]) -> list[tuple[str, int]]:
        """Nobody climbs."""
        del rungs
        return []
