"""Kinds of a search that evo does not ship, as another package would bring them: a fidelity of two rungs, an emitter
that always mutates the first seed, an engine that begins with the last job, a score that is to be raised."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import isfinite
from types import TracebackType
from typing import Annotated, ClassVar, Self

from pydantic import Field

from evo.archive.space import Space
from evo.base.streams import Stream
from evo.dsl.centroids import CentroidsSpec
from evo.dsl.coolings import StartedCooling
from evo.dsl.document import parse
from evo.dsl.emitter import EmitterSpec
from evo.dsl.engine import EngineSpec
from evo.dsl.fidelity import FidelitySpec
from evo.dsl.operators import Made, OperatorsSpec
from evo.dsl.selections import Breeders, SelectionSpec
from evo.dsl.surrogate import SurrogateSpec
from evo.dsl.task import Score
from evo.engines.jobs import Job, Limits, Outcome, find_function, run_job
from evo.evolution.emitters.base import Offspring, Situation
from evo.evolution.mutate import mutate
from evo.tasks.bytes.spec import BytesSpec


class Halving(FidelitySpec):
    """Two rungs: of all candidates so far, the best 1 / eta are trained eta times as long (Li et al. 2020, ASHA)."""

    kind: ClassVar[str | None] = "halving"

    eta: Annotated[int, Field(ge=2)] = 2

    @property
    def shares(self) -> tuple[float, ...]:
        """A share of 1 / eta at the first rung."""
        return 1 / self.eta, 1.0

    def promote(self, rungs: Sequence[Mapping[str, float]], population: Collection[str]) -> list[tuple[str, int]]:
        """The best floor(n / eta) of the first rung that are not on the second; ties by id."""
        first, second = rungs[0], rungs[1] if len(rungs) > 1 else {}
        best = sorted(first, key=lambda id: (first[id], id))[: len(first) // self.eta]
        return [(id, 1) for id in best if isfinite(first[id]) and id not in second]


class Graded(BytesSpec):
    """The bytes of a text, scored by another name and the other way round."""

    kind: ClassVar[str | None] = "graded"
    primary: ClassVar[Score] = Score("accuracy", lower_is_better=False, uniform=0.1, unit="share")


class HyperbolicCooling(StartedCooling):
    """T = start / (1 + generation)."""

    kind: ClassVar[str | None] = "hyperbolic"

    def temperature(self, generation: int, generations: int, improved: Sequence[bool] = ()) -> float:
        """See `CoolingSpec.temperature`."""
        return self.start / (1 + generation)


class Diagonal(CentroidsSpec):
    """Cells along the diagonal of the unit box."""

    kind: ClassVar[str | None] = "diagonal"
    builder: ClassVar[str] = "strangers.search:diagonal"


def diagonal(spec: Diagonal, measures: tuple[str, ...], cells: int, sample_NM: object, stream: Stream) -> Space:
    """See `make_space`."""
    count = len(measures)
    points = tuple(((place + 0.5) / cells,) * count for place in range(cells))
    return Space(measures, (0.0,) * count, (1.0,) * count, points)


class Eldest(SelectionSpec):
    """The elite of the lowest cell, every time."""

    kind: ClassVar[str | None] = "eldest"

    def pick(self, breeders: Breeders, stream: Stream) -> int:
        """See `SelectionSpec.pick`."""
        return 0


class Afresh(EmitterSpec):
    """One mutation of the first seed, every time."""

    kind: ClassVar[str | None] = "afresh"
    builder: ClassVar[str] = "strangers.search:AfreshEmitter"


class AfreshEmitter:
    """Makes them."""

    def __init__(self, spec: Afresh) -> None:
        self.spec = spec

    def emit(self, situation: Situation, stream: Stream) -> Offspring | None:
        """See `Emitter.emit`."""
        seed = situation.journal.candidate("0000/00")
        return Offspring(mutate(parse(seed.document).document, stream, accept=situation.accepts), (seed.id,))


class Backwards(EngineSpec):
    """In this process, the last job first."""

    kind: ClassVar[str | None] = "backwards"
    builder: ClassVar[str] = "strangers.search:BackwardsEngine"


class BackwardsEngine:
    """Runs them."""

    def __init__(self, spec: Backwards, limits: Limits) -> None:
        self.spec, self.limits = spec, limits

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """See `Engine.map`."""
        return (run_job(job, find_function(job.function)) for job in reversed(list(jobs)))

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Upside(OperatorsSpec):
    """What is rare by itself is tried often."""

    kind: ClassVar[str | None] = "upside"

    def shares(
        self, usual: Mapping[str, float], history: Sequence[Made], before: str, stream: Stream
    ) -> Mapping[str, float]:
        """See `OperatorsSpec.shares`."""
        del history, before, stream
        turned = {name: 1 / share for name, share in usual.items()}
        return {name: share / sum(turned.values()) for name, share in turned.items()}


class Shortest(SurrogateSpec):
    """The shorter its document, the better a candidate."""

    kind: ClassVar[str | None] = "shortest"
    builder: ClassVar[str] = "strangers.search:ShortestFirst"


class ShortestFirst:
    """Guesses by the length of the document."""

    def __init__(self, spec: Shortest, settings: object) -> None:
        del spec, settings

    def guess(self, documents: Sequence[str], known: object, pending: object) -> list[float] | None:
        """See `Surrogate.guess`."""
        del known, pending
        return [-float(len(text)) for text in documents]
