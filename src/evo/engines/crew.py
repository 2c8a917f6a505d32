"""What engines of workers share: a worker runs one job at a time, and gets the next when it is free."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from evo.engines.jobs import Failure, Job, Outcome, explain


class Hand(Protocol):
    """A worker of a crew. job: what it runs, None where it is free."""

    job: Job | None


H = TypeVar("H", bound=Hand)


class Crew(ABC, Generic[H]):
    """An engine of up to `workers` workers, hired when first needed and kept between calls of `map`.

    Use as a context manager, or `close`.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.hands: list[H] = []

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Run the jobs and yield outcomes as they come. Leaving early, or an interrupt, ends the workers still busy.

        Jobs are taken from the iterable when a worker is free for them. One `map` runs at a time.
        """
        source = iter(jobs)
        try:
            while True:
                yield from self._hand_out(source)
                if not self.busy():
                    return
                yield from self.collect()
        finally:
            self.dismiss(self.busy())

    def close(self) -> None:
        """End all workers."""
        self.dismiss(list(self.hands))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def busy(self) -> list[H]:
        """The workers that have a job."""
        return [hand for hand in self.hands if hand.job is not None]

    def free(self) -> H:
        """A worker that has none, hired if there is none."""
        for hand in self.hands:
            if hand.job is None:
                return hand
        self.hands.append(self.hire())
        return self.hands[-1]

    @abstractmethod
    def hire(self) -> H:
        """A new worker."""

    @abstractmethod
    def take(self, hand: H, job: Job) -> None:
        """Give a job to a free worker; raises whatever pickling it raises, and the worker is free then."""

    @abstractmethod
    def collect(self) -> Iterable[Outcome]:
        """Wait until something happens to a busy worker, and give the outcomes that came of it."""

    @abstractmethod
    def dismiss(self, hands: Sequence[H]) -> None:
        """End workers, whatever they do."""

    def _hand_out(self, source: Iterator[Job]) -> Iterator[Outcome]:
        while len(self.busy()) < self.workers:
            job = next(source, None)
            if job is None:
                return
            hand = self.free()
            try:
                self.take(hand, job)
            except Exception as error:  # whatever a payload's own pickling raises
                message = f"the job cannot be pickled: {explain(error).message}"
                yield Outcome(job.id, None, Failure("error", message), 0.0)
