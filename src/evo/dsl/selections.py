"""Which elite breeds: what each kind of selection is called, what it reads, and what it means.

A selection is a pure function of the elites as they stand and of a stream, so a resumed run picks the same.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import Field

from evo.dsl.spec import AsTuple, ListOf, Spec

if TYPE_CHECKING:
    from evo.base.streams import Stream  # loads numpy


class Breeders(Protocol):
    """The elites that may breed, in the order of their cells; all sequences have one entry an elite.

    terms: of its objective, each better the higher. gains: what each of its children so far brought the result archive,
    oldest first: its objective in an empty cell, its improvement in an occupied one, 0 where it did not enter. costs:
    by name, each better the lower: `score` (the primary one, turned round where a higher one is better), `flops` a
    token, `cache` (what decoding holds after a full context), `parameters`, and `depth` in layers that run in a row.
    """

    @property
    def objectives(self) -> Sequence[float]: ...

    @property
    def measures(self) -> Sequence[tuple[float, ...]]: ...

    @property
    def terms(self) -> Sequence[tuple[float, ...]]: ...

    @property
    def gains(self) -> Sequence[tuple[float, ...]]: ...

    @property
    def costs(self) -> Sequence[Mapping[str, float]]: ...


class SelectionSpec(Spec):
    """A choice of parents among the elites of the working archive."""

    @abstractmethod
    def pick(self, breeders: Breeders, stream: "Stream") -> int:
        """The index of the elite that breeds."""


class UniformSelection(SelectionSpec):
    """Every occupied cell alike, as MAP-Elites has it (Mouret and Clune 2015)."""

    kind: ClassVar[str | None] = "uniform"

    def pick(self, breeders: Breeders, stream: "Stream") -> int:
        """See `SelectionSpec.pick`."""
        return int(stream.numpy().integers(len(breeders.objectives)))


class TournamentSelection(SelectionSpec):
    """The best of some elites drawn uniformly over the occupied cells, with replacement."""

    kind: ClassVar[str | None] = "tournament"

    size: Annotated[int, Field(ge=1, le=1_000)] = 4
    """How many are drawn."""

    def pick(self, breeders: Breeders, stream: "Stream") -> int:
        """See `SelectionSpec.pick`."""
        drawn = stream.numpy().integers(len(breeders.objectives), size=self.size).tolist()
        return max(drawn, key=lambda index: breeders.objectives[index])


class CuriositySelection(SelectionSpec):
    """In proportion to curiosity: elites whose children entered the archive breed on (Cully and Demiris 2018)."""

    kind: ClassVar[str | None] = "curiosity"

    reward: Annotated[float, Field(gt=0, le=100)] = 1.0
    """What a child that entered adds to its parent's curiosity, which begins at 1."""
    penalty: Annotated[float, Field(ge=0, le=100)] = 0.5
    """What one that did not takes away; curiosity stays above 0."""

    def pick(self, breeders: Breeders, stream: "Stream") -> int:
        """See `SelectionSpec.pick`."""
        weights = list[float]()
        for gains in breeders.gains:
            curiosity = 1.0
            for gain in gains:
                curiosity = max(0.05, curiosity + (self.reward if gain > 0 else -self.penalty))
            weights.append(curiosity)
        return _weighted(weights, stream)


class LexicaseSelection(SelectionSpec):
    """Those that are best in one term of the objective, then in another, in an order drawn anew (Spector 2012).

    Of each term all pass that come within its median absolute deviation of the best (epsilon-lexicase, La Cava et al.
    2016).
    """

    kind: ClassVar[str | None] = "lexicase"

    def pick(self, breeders: Breeders, stream: "Stream") -> int:
        """See `SelectionSpec.pick`."""
        rng = stream.numpy()
        left = list(range(len(breeders.terms)))
        order: list[int] = rng.permutation(len(breeders.terms[0])).tolist()
        for case in order:
            values = [breeders.terms[index][case] for index in left]
            least = max(values) - _deviation([terms[case] for terms in breeders.terms])
            left = [index for index, value in zip(left, values, strict=True) if value >= least]
        return left[int(rng.integers(len(left)))]


class NoveltySelection(SelectionSpec):
    """In proportion to novelty, the mean distance to the nearest others in the measures (Lehman and Stanley 2011)."""

    kind: ClassVar[str | None] = "novelty"

    neighbours: Annotated[int, Field(ge=1, le=1_000)] = 15
    """How many of the nearest count."""

    def pick(self, breeders: Breeders, stream: "Stream") -> int:
        """See `SelectionSpec.pick`."""
        points = breeders.measures
        away = (sorted(math.dist(one, two) for two in points)[1 : self.neighbours + 1] for one in points)
        return _weighted([sum(found) / max(1, len(found)) for found in away], stream)


class ImprovementSelection(SelectionSpec):
    """The elite whose children improve the archive most, by an upper confidence bound (UCB1, Auer et al. 2002)."""

    kind: ClassVar[str | None] = "improvement"

    exploration: Annotated[float, Field(ge=0, le=100)] = 0.5
    """How much the bound lies above the mean gain of an elite with few children, in units of the objective."""

    def pick(self, breeders: Breeders, stream: "Stream") -> int:
        """See `SelectionSpec.pick`; elites without children come first, and ties are drawn."""
        total = sum(map(len, breeders.gains))
        bounds = [self._bound(gains, total) for gains in breeders.gains]
        best = [index for index, bound in enumerate(bounds) if bound == max(bounds)]
        return best[int(stream.numpy().integers(len(best)))]

    def _bound(self, gains: tuple[float, ...], total: int) -> float:
        if not gains:
            return math.inf
        return sum(gains) / len(gains) + self.exploration * math.sqrt(2 * math.log(total) / len(gains))


CostName = Literal["score", "flops", "cache", "parameters", "depth"]


class ParetoSelection(SelectionSpec):
    """The better of two drawn ones by Pareto rank, and in one rank the one in the emptier place (NSGA-II, Deb 2002)."""

    kind: ClassVar[str | None] = "pareto"

    over: Annotated[tuple[CostName, ...], AsTuple, ListOf(bare=True), Field(min_length=2, max_length=5)] = (
        "score",
        "flops",
        "cache",
        "parameters",
    )
    """The costs that are weighed against one another. Depth stands for latency, which no two runs measure alike."""

    def pick(self, breeders: Breeders, stream: "Stream") -> int:
        """See `SelectionSpec.pick`."""
        points = [tuple(costs[name] for name in self.over) for costs in breeders.costs]
        ranks = pareto_ranks(points)
        one, two = stream.numpy().integers(len(points), size=2).tolist()
        if ranks[one] != ranks[two]:
            return one if ranks[one] < ranks[two] else two
        front = [index for index, rank in enumerate(ranks) if rank == ranks[one]]
        room = dict(zip(front, crowding([points[index] for index in front]), strict=True))
        return one if room[one] >= room[two] else two


def pareto_ranks(points: Sequence[tuple[float, ...]]) -> list[int]:
    """The front of each point: 0 for those that no other is as good as in all and better than in one. Less wins."""
    import numpy as np

    values = np.array(points)
    weakly = (values[:, None] <= values[None]).all(-1)
    dominates = weakly & (values[:, None] < values[None]).any(-1)
    ranks, left, rank = np.full(len(points), -1), np.ones(len(points), dtype=bool), 0
    while left.any():
        front = left & ~(dominates & left[:, None]).any(0)
        ranks[front], rank = rank, rank + 1
        left &= ~front
    return ranks.tolist()


def crowding(points: Sequence[tuple[float, ...]]) -> list[float]:
    """How far apart the neighbours of each point of a front are, summed over normalised costs; endless at the ends."""
    room = [0.0] * len(points)
    for axis in range(len(points[0])):
        order = sorted(range(len(points)), key=lambda index: points[index][axis])
        low, high = points[order[0]][axis], points[order[-1]][axis]
        room[order[0]] = room[order[-1]] = math.inf
        for before, index, after in zip(order, order[1:], order[2:], strict=False):
            room[index] += (points[after][axis] - points[before][axis]) / ((high - low) or 1.0)
    return room


def _weighted(weights: Sequence[float], stream: "Stream") -> int:
    """An index drawn in proportion to weights; uniformly where all are 0."""
    total = sum(weights)
    rng = stream.numpy()
    if not total > 0:
        return int(rng.integers(len(weights)))
    return int(rng.choice(len(weights), p=[weight / total for weight in weights]))


def _deviation(values: Sequence[float]) -> float:
    """The median absolute deviation from the median."""
    middle = _median(values)
    return _median([abs(value - middle) for value in values])


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
