"""How many candidates a search carries out in an hour: `evo evolve` itself, with everything that it does, for a while.

Journal, workers' start, compilation, training, measuring and snapshots are included; what a search does once, before
its first children, is told apart. Cells are uniform, as mutants would be probed for others, once too. Searches with a
cold cache of Triton's begin with an empty folder, and warm ones with what the cold one before left there.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from evo.compiler.compute import step_tokens
from evo.dsl.canonical import to_yaml
from evo.dsl.centroids import UniformCentroids
from evo.dsl.document import parse
from evo.dsl.evolve import EvolveSpec, VerifySpec
from evo.evolution.candidate import Candidate
from evo.evolution.documents import document_of
from evo.evolution.evaluate import EVALUATE
from evo.evolution.observer import Silent
from evo.evolution.run import start
from evo.evolution.settings import Settings
from evo.evolution.trial import Evaluation, Trial

CACHE = "TRITON_CACHE_DIR"
MIXERS = (
    "{kind: attention, heads: 4}",
    "{kind: recurrence, heads: 4}",
    "{kind: rg_lru, heads: 4}",
    "{kind: convolution, size: 4}",
)
"""Of the seeds: a mixed population from the start."""
POPULATION = 64
"""Children a generation: workers wait for one another at its end."""


@dataclass(frozen=True)
class Size:
    """Of the seeds. 3.2 M parameters and 2 M tokens for the first by default."""

    width: int = 256
    layers: int = 4
    context: int = 256
    batch: int = 32
    steps: int = 244


@dataclass(frozen=True)
class Rate:
    """What one search did in so many `seconds`. candidates: those that ended, failed ones too, whose tokens do not
    count. start_s: until it had workers and its seeds, tried again for the noise, and began with children. children:
    the candidates that ended after that."""

    workers: int
    cache: str
    seconds: float
    candidates: int
    failed: int
    tokens: int
    start_s: float
    children: int

    @property
    def per_hour(self) -> float:
        """Candidates an hour."""
        return 3600 * self.candidates / self.seconds

    @property
    def children_per_hour(self) -> float:
        """Candidates an hour without the start."""
        running = self.seconds - self.start_s
        return 3600 * self.children / running if running > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second that candidates with scores were trained on."""
        return self.tokens / self.seconds


@dataclass
class Tally(Silent):
    """Counts what ends."""

    began: float = field(default_factory=time.monotonic)
    start_s: float | None = None
    candidates: int = 0
    children: int = 0
    failed: int = 0
    tokens: int = 0

    def generation_began(self, generation: int, candidates: list[Candidate], temperature: float) -> None:
        """See `Observer.generation_began`."""
        if generation == 1:
            self.start_s = time.monotonic() - self.began

    def evaluated(self, trial: Trial, evaluation: Evaluation, seconds: float) -> None:
        """See `Observer.evaluated`."""
        self.candidates += 1
        self.children += self.start_s is not None
        self.failed += bool(evaluation.cause)
        if not evaluation.cause:
            self.tokens += trial.steps * step_tokens(document_of(trial.candidate.document))


def measure(device: str, workers: Sequence[int], seconds: float, size: Size | None = None) -> Iterator[Rate]:
    """For each number of workers a search with a cold cache and one with a warm one, as they end."""
    for number in workers:
        with tempfile.TemporaryDirectory() as folder, _cache(folder):
            for state in ("cold", "warm"):
                yield rate(device, number, state, seconds, size or Size())


def rate(device: str, workers: int, cache: str, seconds: float, size: Size, evaluate: str = EVALUATE) -> Rate:
    """One search of that many seconds. evaluate: see `Search`."""
    evolve = EvolveSpec(
        generations=1000, population=POPULATION, centroids=UniformCentroids(), verify=VerifySpec(seeds=0)
    )
    settings = Settings(seeds(size), ".", evolve, device=device, workers=workers)
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, suppress(TimeUpError), _time_up_after(seconds):
        start(Path(folder) / "run", settings, tally, evaluate=evaluate)
    took = min(seconds, time.monotonic() - tally.began)
    start_s = took if tally.start_s is None else tally.start_s
    return Rate(workers, cache, took, tally.candidates, tally.failed, tally.tokens, start_s, tally.children)


def seeds(size: Size) -> tuple[str, ...]:
    """The documents that a search begins with, as canonical YAML."""
    stage = f"{{name: body, repeat: {size.layers}, mix: %s}}"
    organism = f"{{width: {size.width}, context: {size.context}, stages: [{stage}]}}"
    text = f"evo: 1\norganism: {organism}\ntrain: {{batch: {size.batch}, steps: {size.steps}}}\n"
    return tuple(to_yaml(parse(text % mixer).document) for mixer in MIXERS)


def cells(rates: Sequence[Rate]) -> list[tuple[str, ...]]:
    """The table, its heading first."""
    head = (
        "workers", "cache", "seconds", "candidates", "failed", "candidates/h", "start, s", "after it, candidates/h",
        "Mtok/s",
    )  # fmt: skip
    return [
        head,
        *(
            (
                str(r.workers), r.cache, f"{r.seconds:.0f}", str(r.candidates), str(r.failed),
                f"{r.per_hour:,.0f}", f"{r.start_s:.1f}", f"{r.children_per_hour:,.0f}",
                f"{r.tokens_per_second / 1e6:.2f}",
            )
            for r in rates
        ),
    ]  # fmt: skip


class TimeUpError(KeyboardInterrupt):
    """The time of a search is up. Work is put away as on Ctrl-C."""


@contextmanager
def _time_up_after(seconds: float) -> Generator[None]:
    """Inside the block `TimeUpError` is raised in the main thread when the time is up, wherever it stands."""
    before = signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise TimeUpError


@contextmanager
def _cache(folder: str) -> Generator[None]:
    """Inside the block Triton keeps what it compiles in a folder, in workers that are started there."""
    before = os.environ.get(CACHE)
    os.environ[CACHE] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHE]
        else:
            os.environ[CACHE] = before
