"""How many candidates a search carries out in an hour: `evo evolve` itself, with everything that it does, for a while.

Journal, workers' start, compilation, training, measuring and snapshots are included; what a search does once, before
its first children, is told apart. Cells are uniform, as mutants would be probed for others, once too. On a GPU searches
with a cold cache of Triton's begin with an empty folder, and warm ones with what the cold one before left there.
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

import torch

from evo.compiler.check import require_valid
from evo.compiler.compute import step_tokens
from evo.dsl.canonical import to_yaml
from evo.dsl.document import Document, parse
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
CELLS = 1250
"""One for four candidates of an hour of 5,000; the generations are more than any search here comes to."""


@dataclass(frozen=True)
class Size:
    """Of the seeds, which are trained for so many steps."""

    width: int
    layers: int
    context: int
    batch: int
    steps: int

    def __str__(self) -> str:
        shape = f"width {self.width}, {self.layers} layers, context {self.context}, batch {self.batch}"
        return f"{shape}, the FLOPs of {self.steps} steps"


SIZES = {"cpu": Size(192, 4, 192, 6, 120), "cuda": Size(256, 4, 256, 32, 244)}
"""By device. The first seed has 1.8 M parameters and 0.14 M tokens, and 3.2 M parameters and 2 M tokens."""


@dataclass(frozen=True)
class Rate:
    """What one search did in so many `seconds`. candidates: those that ended, failed ones too, whose tokens do not
    count; each rung and each repetition is one. start_s: until it had workers and its seeds, tried again for the noise,
    and began with children. children: the candidates that ended after that. networks: different ones with a score.
    cpu_s: processor seconds of all processes.
    """

    workers: int
    cache: str
    seconds: float
    candidates: int
    failed: int
    tokens: int
    start_s: float
    children: int
    networks: int
    cpu_s: float

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
    def networks_per_cpu_hour(self) -> float:
        """Different networks with a score, for an hour of one core."""
        return 3600 * self.networks / self.cpu_s

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
    networks: set[str] = field(default_factory=set)

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
            self.networks.add(trial.candidate.hash)


def measure(device: str, workers: Sequence[int], seconds: float, overrides: Sequence[str] = ()) -> Iterator[Rate]:
    """For each number of workers a search, on a GPU one with a cold cache and one with a warm one, as they end.

    overrides: of the seeds' documents, such as `evolve.fidelity.kind=hyperband`. Raises DiagnosticError for wrong ones.
    """
    kind = torch.device(device).type
    first, *others = documents(SIZES[kind], overrides)
    for number in workers:
        with tempfile.TemporaryDirectory() as folder, _cache(folder):
            for state in ("cold", "warm") if kind == "cuda" else ("none",):
                yield rate((first, *others), device, number, state, seconds)


def rate(
    documents: Sequence[Document], device: str, workers: int, cache: str, seconds: float, evaluate: str = EVALUATE
) -> Rate:
    """One search of that many seconds, as the first document says. evaluate: see `Search`."""
    seeds = tuple(map(to_yaml, documents))
    settings = Settings(seeds, ".", documents[0].evolve, device=device, workers=workers)
    tally, cpu_s = Tally(), _cpu_seconds()
    with tempfile.TemporaryDirectory() as folder, suppress(TimeUpError), _time_up_after(seconds):
        start(Path(folder) / "run", settings, tally, evaluate=evaluate)
    took, cpu_s = min(seconds, time.monotonic() - tally.began), _cpu_seconds() - cpu_s
    start_s = took if tally.start_s is None else tally.start_s
    networks = len(tally.networks)
    return Rate(
        workers, cache, took, tally.candidates, tally.failed, tally.tokens, start_s, tally.children, networks, cpu_s
    )


def documents(size: Size, overrides: Sequence[str] = ()) -> list[Document]:
    """What a search begins with. Raises DiagnosticError for overrides that no document can have."""
    stage = f"{{name: body, repeat: {size.layers}, mix: %s}}"
    organism = f"{{width: {size.width}, context: {size.context}, stages: [{stage}]}}"
    cells = f"cells: {CELLS}, centroids: {{kind: uniform}}"
    evolve = f"{{generations: 1000, population: {POPULATION}, {cells}, verify: {{seeds: 0}}}}"
    train = f"{{batch: {size.batch}, steps: {size.steps}}}"
    text = f"evo: 1\norganism: {organism}\ntrain: {train}\nevolve: {evolve}\n"
    return [require_valid(parse(text % mixer, overrides=overrides)) for mixer in MIXERS]


def _cpu_seconds() -> float:
    """Processor seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def cells(rates: Sequence[Rate]) -> list[tuple[str, ...]]:
    """The table, its heading first."""
    head = (
        "workers", "cache", "seconds", "candidates", "failed", "candidates/h", "start, s", "after it, candidates/h",
        "Mtok/s", "networks", "networks/CPU h",
    )  # fmt: skip
    return [
        head,
        *(
            (
                str(r.workers), r.cache, f"{r.seconds:.0f}", str(r.candidates), str(r.failed),
                f"{r.per_hour:,.0f}", f"{r.start_s:.1f}", f"{r.children_per_hour:,.0f}",
                f"{r.tokens_per_second / 1e6:.3g}", str(r.networks), f"{r.networks_per_cpu_hour:,.0f}",
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
