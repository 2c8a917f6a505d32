"""How much of the budget a candidate is trained for: the rungs of a search, and who climbs from one to the next."""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from evo.dsl.spec import Spec


class FidelitySpec(Spec):
    """The rungs of a search. A trial at a rung goes on where the trial at the rung below stopped."""

    @property
    @abstractmethod
    def shares(self) -> tuple[float, ...]:
        """The share of the budget that a candidate has used at the end of each rung: they rise, and the last is 1."""

    def entry(self, number: int) -> int:
        """The rung at which the `number`th candidate of the search begins, from 0; the lowest unless a kind differs."""
        del number
        return 0

    @abstractmethod
    def promote(self, rungs: Sequence[Mapping[str, float]], population: Collection[str]) -> list[tuple[str, int]]:
        """The (candidate, rung) pairs to be run next, none twice; empty ends the generation.

        A pure function, so that a resumed run decides the same. It is asked whenever all trials are evaluated.

        Args:
            rungs: for each rung from 0, candidate -> the cost of its trial: the primary score with its sign such that
                less is better, infinite for a failure. In the order in which trials were asked for, all generations.
            population: the elites of the working archive as the generation found it.
        """


class SingleFidelity(FidelitySpec):
    """One rung: every candidate is trained for the whole budget."""

    kind: ClassVar[str | None] = "single"

    @property
    def shares(self) -> tuple[float, ...]:
        """All of it."""
        return (1.0,)

    def promote(self, rungs: Sequence[Mapping[str, float]], population: Collection[str]) -> list[tuple[str, int]]:
        """Nobody climbs."""
        del rungs, population
        return []
