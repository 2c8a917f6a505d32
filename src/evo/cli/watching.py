"""What long commands show while they run: a bar for training, a live table for a search."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from evo.base.diagnostics import printable
from evo.cli.view import plural
from evo.evolution.observer import Silent

if TYPE_CHECKING:
    from evo.dsl.task import Score
    from evo.evolution.candidate import Candidate
    from evo.evolution.summary import Summary
    from evo.evolution.trial import Evaluation, Trial
    from evo.training import loop

PLAIN_EVERY = 50
NARROW, WIDE = 45, 80
"""Columns of a terminal below which the bar of a training leaves parts out."""
DISPENSABLE = (6, 2, 5, 1, 7, 3, 0)
"""Columns of the table of a search, the first to be left out on a narrow terminal first."""
SCORING = "scoring on what was held out"
"""What goes on, for seconds or minutes, between the last step and the score."""
GAP = 2
"""Characters around a column."""


@contextmanager
def training_bar(steps: int, *, begun: int, quiet: bool) -> Iterator[Callable[[loop.Progress], None]]:
    """A bar with loss, tokens/s and time left on a terminal; a line every 50 steps in a pipe; nothing if quiet.

    begun: the step that the training goes on from.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield (lambda progress: None) if quiet else _plain_line
        return
    with Progress(*bar_columns(console.width), console=console) as bar:
        task = bar.add_task("train", total=steps, completed=begun, loss="-", speed=0.0)

        def note(progress: loop.Progress) -> None:
            bar.update(task, completed=progress.step, loss=_losses(progress), speed=progress.tokens_per_second)
            if progress.step == progress.steps:
                bar.stop()
                console.print(SCORING)

        yield note


def bar_columns(width: int) -> list[ProgressColumn]:
    """What a terminal of so many columns has room for, each whole: steps and loss, then time, speed, bar."""
    steps, loss = TextColumn("step {task.completed}/{task.total}"), TextColumn("loss {task.fields[loss]}")
    speed = TextColumn("{task.fields[speed]:,.0f} tokens/s")
    if width < NARROW:
        return [steps, loss]
    if width < WIDE:
        return [steps, loss, TimeRemainingColumn()]
    return [steps, BarColumn(), loss, speed, TimeRemainingColumn()]


def _losses(progress: loop.Progress) -> str:
    """The task's loss, and each auxiliary one after its name."""
    return "  ".join([f"{progress.loss:.3f}", *(f"{name} {value:.3g}" for name, value in progress.auxiliary.items())])


def _plain_line(progress: loop.Progress) -> None:
    if progress.step % PLAIN_EVERY == 0 or progress.step == progress.steps:
        left = progress.seconds / max(1, progress.step) * (progress.steps - progress.step)
        speed = f"{progress.tokens_per_second:,.0f} tokens/s"
        print(
            f"step {progress.step}/{progress.steps}  loss {_losses(progress)}  {speed}  {left:.0f} s left", flush=True
        )
    if progress.step == progress.steps:
        print(SCORING, file=sys.stderr, flush=True)


def say(warnings: tuple[str, ...]) -> None:
    """Warnings on stderr, a line each."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


class Warned(Silent):
    """Says nothing but warnings: for programs that read stdout."""

    def warned(self, warnings: tuple[str, ...]) -> None:
        say(warnings)


class SearchTable:
    """A row a generation, the last candidate below, and the time left.

    Where there is no terminal, a line a generation, and on stderr one a candidate with the time left.
    """

    def __init__(self, generations: int, population: int, primary: Score, opening: str = "") -> None:
        """opening: what is said on stderr once the run has begun."""
        self.opening = opening
        self.console = Console()
        self.primary, self.headings = primary, headings(primary)
        self.generations, self.population = generations, population
        self.rows: list[tuple[str, ...]] = []
        self.note, self.began = "starting workers", time.monotonic()
        self.done, self.pending, self.generation = 0, 0, 0
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def __enter__(self) -> SearchTable:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def warned(self, warnings: tuple[str, ...]) -> None:
        if self.live is None:  # the run has begun: nothing that would refuse it stands in its way
            print("  ".join(f"{name:>{width}}" for name, width in self.headings))
        say(warnings)

    def generation_began(self, generation: int, candidates: list[Candidate], temperature: float) -> None:
        if self.opening:
            print(printable(self.opening), file=sys.stderr, flush=True)
            self.opening = ""
        self.generation, self.pending = generation, len(candidates)
        self._say(f"generation {generation}: {plural(len(candidates), 'candidate')} at temperature {temperature:.4f}")

    def promoted(self, trials: list[Trial]) -> None:
        self.pending += len(trials)
        self._say(f"generation {self.generation}: {plural(len(trials), 'candidate')} to climb a rung")

    def repeated(self, trials: list[Trial]) -> None:
        self.pending += len(trials)
        self._say(f"generation {self.generation}: {plural(len(trials), 'candidate')} to try again with another seed")

    def evaluated(self, trial: Trial, evaluation: Evaluation, seconds: float) -> None:
        if not self.done:  # the start of the workers tells nothing of those to come
            self.began = time.monotonic() - seconds
        self.done += 1
        self.pending -= 1
        how = "+".join(trial.candidate.operators) or "seed"
        what = evaluation.cause or f"{evaluation.scores[self.primary.name]:.3f} {self.primary.label}"
        self._say(f"{trial.id} {how}: {what} in {seconds:.0f} s{self._left()}")

    def generation_ended(self, summary: Summary) -> None:
        self.rows.append(_row(summary))
        if self.live is None:
            print(
                "  ".join(f"{cell:>{width}}" for cell, (_, width) in zip(self.rows[-1], self.headings, strict=True)),
                flush=True,
            )
        self._refresh()

    def verdict_began(self, trainings: int) -> None:
        self.done, self.pending, self.generation, self.began = 0, trainings, self.generations, time.monotonic()
        self._say(f"verdict: training the best and the seeds from scratch, {trainings} times in all")

    def verdict_trained(self, trainings: int) -> None:
        self.done += trainings
        self.pending -= trainings
        self._say(f"verdict: {self.done} of {self.done + self.pending} trained{self._left()}")

    def _left(self) -> str:
        """Of the search, or of its verdict once that has begun; nothing where no more is known to come."""
        remaining = self.pending + (self.generations - self.generation) * self.population
        seconds = (time.monotonic() - self.began) / max(1, self.done) * remaining
        said = f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
        return f"; {said} left" if remaining else ""

    def _say(self, note: str) -> None:
        self.note = note
        if self.live is None:  # on stderr, so that a pipe gets the table alone
            print(printable(note), file=sys.stderr, flush=True)
        self._refresh()

    def _refresh(self) -> None:
        if self.live is None:
            return
        table = Table(box=None)
        shown = fitting([width for _, width in self.headings], self.console.width)
        for column in shown:
            table.add_column(self.headings[column][0], justify="right", no_wrap=True)
        for row in self.rows[-20:]:
            table.add_row(*(row[column] for column in shown))
        self.live.update(Group(table, Text(self.note)), refresh=True)


def headings(primary: Score) -> tuple[tuple[str, int], ...]:
    """The columns of the table with their widths."""
    best = f"best {primary.unit}"
    return (
        ("generation", 10), ("coverage", 8), ("QD score", 8), ("best", 8), (best, len(best)), ("temperature", 11),
        ("annealed", 8), ("failures", 8),
    )  # fmt: skip


def fitting(widths: list[int], room: int) -> list[int]:
    """The columns that a terminal has room for, each whole: the least telling ones go first, the score last."""
    shown = list(range(len(widths)))
    for column in DISPENSABLE:
        if sum(widths[kept] + GAP for kept in shown) > room:
            shown.remove(column)
    return shown


def _row(summary: Summary) -> tuple[str, ...]:
    assert summary.best_objective is not None
    assert summary.best_score is not None
    return (
        str(summary.generation),
        f"{summary.coverage:.1%}",
        f"{summary.qd_score:.3f}",
        f"{summary.best_objective:.4f}",
        f"{summary.best_score:.4f}",
        f"{summary.temperature:.4f}",
        str(summary.annealed),
        str(summary.failures),
    )
