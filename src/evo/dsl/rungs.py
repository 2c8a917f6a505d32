"""Fidelities with rungs: short trials for all, longer ones for those that promise most.

Rungs are a factor `eta` apart in compute. A candidate that climbs goes on from where it stopped, so at the last rung it
has been trained as one that was never stopped.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil, isfinite
from statistics import fmean
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.fidelity import FidelitySpec
from evo.dsl.ranking import Ranking

Costs = Mapping[str, float]
Pairs = list[tuple[str, int]]


class RungsFidelity(FidelitySpec):
    """Rungs that are a factor apart."""

    eta: Annotated[int, Field(ge=2, le=100)] = 3
    """How many times the compute of the rung below a rung has."""
    rungs: Annotated[int, Field(ge=2, le=10)] = 3
    """How many there are; the last one has the whole budget."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Powers of 1 / eta."""
        return tuple(float(self.eta) ** (rung + 1 - self.rungs) for rung in range(self.rungs))

    def promote(self, rungs: Sequence[Costs], population: Collection[str]) -> Pairs:
        """See `FidelitySpec.promote`; the highest rung first."""
        climbing: Pairs = []
        for rung in range(min(len(rungs), self.rungs - 1) - 1, -1, -1):
            above: Costs = rungs[rung + 1] if rung + 1 < len(rungs) else {}
            chosen = self.chosen(rungs, rung, population)
            climbing += [(id, rung + 1) for id in chosen if id not in above and isfinite(rungs[rung][id])]
        return climbing

    @abstractmethod
    def chosen(self, rungs: Sequence[Costs], rung: int, population: Collection[str]) -> Iterable[str]:
        """The candidates of a rung that may climb from it, those that did included, the best first."""


class AshaFidelity(RungsFidelity):
    """Of the n candidates that a rung has seen, the best floor(n / eta) climb (Li et al. 2020, arXiv 1810.05934).

    Whenever no candidate can climb, new ones are made. NaN is worst; equal costs go by id.
    """

    kind: ClassVar[str | None] = "asha"

    def chosen(self, rungs: Sequence[Costs], rung: int, population: Collection[str]) -> Iterable[str]:
        """See `RungsFidelity.chosen`."""
        del population
        return best(rungs[rung], self.eta)


class HyperbandFidelity(RungsFidelity):
    """Brackets of `asha`, dealt out in turn: in bracket s candidates begin at rung s, so late bloomers have a chance.

    Of each round, bracket s gets ceil(rungs / (rungs - s) eta^(rungs - 1 - s)) candidates (Li et al. 2018, arXiv
    1603.06560, algorithm 1), and within it the best climb as in `asha` (asynchronous Hyperband, arXiv 1810.05934).
    """

    kind: ClassVar[str | None] = "hyperband"

    def entry(self, number: int) -> int:
        """The bracket of the `number`th candidate."""
        sizes = [ceil(self.rungs / (self.rungs - s) * self.eta ** (self.rungs - 1 - s)) for s in range(self.rungs)]
        place = number % sum(sizes)
        return next(s for s in range(self.rungs) if place < sum(sizes[: s + 1]))

    def chosen(self, rungs: Sequence[Costs], rung: int, population: Collection[str]) -> Iterable[str]:
        """The best of each bracket: of those that began at one rung."""
        del population
        brackets: dict[int, dict[str, float]] = {}
        for id, cost in rungs[rung].items():
            began = next(lower for lower in range(rung + 1) if id in rungs[lower])
            brackets.setdefault(began, {})[id] = cost
        return [id for began in sorted(brackets) for id in best(brackets[began], self.eta)]


class HurdlesFidelity(RungsFidelity):
    """Progressive dynamic hurdles: who is better than the mean of the current population climbs (So et al. 2019, arXiv
    1901.11117).

    The hurdle of a rung is the mean score there of the elites of the working archive that have been there.
    """

    kind: ClassVar[str | None] = "hurdles"

    def chosen(self, rungs: Sequence[Costs], rung: int, population: Collection[str]) -> Iterable[str]:
        """See `RungsFidelity.chosen`."""
        costs = rungs[rung]
        members = [costs[id] for id in costs if id in population and isfinite(costs[id])]
        if not members:
            return []
        hurdle = fmean(members)
        return [id for id in _ranking(costs).best(len(costs)) if costs[id] < hurdle]


def best(costs: Costs, eta: int) -> list[str]:
    """The best floor(n / eta)."""
    return _ranking(costs).best(len(costs) // eta)


def _ranking(costs: Costs) -> Ranking:
    """Costs in their order, which those of a journal have already."""
    return costs if isinstance(costs, Ranking) else Ranking(costs)
