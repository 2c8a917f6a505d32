"""Run directories from Python: variants, elites, lineage and models of a search, finished or going on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from evo.api.documents import File
from evo.base.rundirs import exact_beside
from evo.dsl.document import Document, parse
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.report import runs
from evo.report.record import Report, Variant

if TYPE_CHECKING:
    from evo.compiler.organism import Organism


@dataclass(frozen=True)
class Variants(Sequence[Variant]):
    """Variants in order, each with its id, file, parents, operators, costs, scores and measures."""

    report: Report
    items: tuple[Variant, ...]

    @overload
    def __getitem__(self, index: int) -> Variant: ...
    @overload
    def __getitem__(self, index: slice) -> Variants: ...
    def __getitem__(self, index: int | slice) -> Variant | Variants:
        return self.items[index] if isinstance(index, int) else Variants(self.report, self.items[index])

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(variant.id for variant in self.items)})"

    def to_records(self) -> list[dict[str, Any]]:
        """One mapping of plain values a variant: every score, term of the objective and measure under its name."""
        return [runs.row(self.report, variant) for variant in self.items]

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row a variant. Raises ImportError where pandas is missing."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install pandas (to_records does without)") from None
        return pandas.DataFrame.from_records(self.to_records())


@dataclass(frozen=True)
class Cells:
    """The archive: where its cells lie, and who holds them.

    measures: what spans it. centroids: a point of [0, 1] a measure, for each cell. elites: cell -> variant.
    """

    measures: tuple[str, ...]
    centroids: tuple[tuple[float, ...], ...]
    elites: dict[int, Variant]

    @property
    def coverage(self) -> float:
        """The share of the cells that somebody holds."""
        return len(self.elites) / max(1, len(self.centroids))


class Run:
    """A run directory, as it stood when it was opened.

    After `run = evo.open_run("results/demo")`: `run.best().file`, `run.best(by="parameters")`,
    `run.elites.to_pandas()`, `run.lineage("0004/01")`, `run.model("0004/01")`.
    """

    def __init__(self, folder: File) -> None:
        self.folder = Path(folder)
        self.report = runs.read_report(self.folder)

    @property
    def variants(self) -> Variants:
        """Every candidate, failed ones too, in the order they were made."""
        return Variants(self.report, self.report.variants)

    @property
    def elites(self) -> Variants:
        """Those that hold a cell of the archive, the highest objective first."""
        return Variants(self.report, tuple(runs.elites(self.report)))

    @cached_property
    def archive(self) -> Cells:
        """The archive of results."""
        report = self.report
        held = {cell: report.by_id[id] for cell, id in report.elites.items()}
        return Cells(report.measures, tuple(map(tuple, report.centroids)), held)

    def best(self, by: str = runs.OBJECTIVE) -> Variant:
        """The best variant: by objective, by the task's score in its own direction, or by the least of any number.

        by: a column of `variants.to_records()`.

        Raises:
            ValueError: nothing was scored yet, or there is no such number.
        """
        return runs.best(self.report, by)

    def lineage(self, id: str) -> Variants:
        """A variant and its line of first parents, the seed first. Raises KeyError for an id that is not there."""
        return Variants(self.report, tuple(runs.lineage(self.report, id)))

    def document(self, id: str) -> Document:
        """The document of a variant. Raises KeyError for an id that is not there."""
        journal = self._journal()
        try:
            return parse(journal.candidate(id).document).document
        finally:
            journal.close()

    def model(self, id: str) -> Organism:
        """A variant as a torch module in float32 on the CPU: with its weights as they were trained where the run keeps
        them, otherwise with those of its snapshot.

        Raises:
            KeyError: an id that is not there, or a variant without a snapshot.
        """
        from evo.compiler.build import build
        from evo.compiler.resolve import resolve
        from evo.evolution.lineage import Lineage
        from evo.training.checkpoint import load_checkpoint

        exact = exact_beside(self.folder / self.report.by_id[id].file)
        if exact.is_file():
            saved = load_checkpoint(exact)
            return build(resolve(saved.document.organism), 0, "cpu", saved.weights)
        journal = self._journal()
        try:
            lineage = Lineage(journal, RunDirectory(self.folder).load(), self.folder)
            weights = lineage.weights(lineage.latest(id))
        finally:
            journal.close()
        return build(resolve(self.document(id).organism), 0, "cpu", weights)

    def _journal(self) -> Journal:
        return Journal(RunDirectory(self.folder).journal_file, only_read=True)

    def __iter__(self) -> Iterator[Variant]:
        return iter(self.variants)

    def __repr__(self) -> str:
        made = len(self.report.generations)
        return f"Run({str(self.folder)!r}: {made} generations, {len(self.report.variants)} variants)"


def open_run(folder: File) -> Run:
    """A run directory that `evo evolve` made, finished or going on.

    Raises:
        DiagnosticError: there is no run, or one of another version (EVO600).
    """
    return Run(folder)
