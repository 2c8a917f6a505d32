"""Variants and documents side by side: what differs, what it costs, what it scored, and how it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evo.base.rundirs import is_run, run_of
from evo.compiler.check import require_valid
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, load
from evo.dsl.patch import diff
from evo.report.costs import LABELS, costs
from evo.report.record import Report, Variant
from evo.report.runs import best, read_report, variant_of
from evo.training.curve import Curve

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of a training, where its curve is read."""


@dataclass(frozen=True)
class Column:
    """One of what is compared. numbers: by section and name."""

    name: str
    document: Document
    numbers: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])


@dataclass(frozen=True)
class Comparison:
    """Columns, and by the name of each but the first the patch from the first to it."""

    columns: tuple[Column, ...]
    patches: dict[str, str]

    def rows(self) -> dict[str, dict[str, list[float | None]]]:
        """Section -> name -> one number a column, in the order they are met."""
        found: dict[str, dict[str, list[float | None]]] = {}
        for column in self.columns:
            for section, numbers in column.numbers.items():
                for name in numbers:
                    values = [other.numbers.get(section, {}).get(name) for other in self.columns]
                    found.setdefault(section, {})[name] = values
        return found


def compare(paths: Sequence[Path]) -> Comparison:
    """Compare documents, variants of runs (with what they scored), and runs (their best variants).

    Raises:
        DiagnosticError: a file with errors, a run that cannot be read (EVO600), a variant that is none of its run
            (EVO608).
    """
    reports: dict[Path, Report] = {}
    columns = tuple(_column(path, reports) for path in paths)
    first = columns[0]
    patches = {other.name: str(diff(first.document, other.document)) for other in columns[1:]}
    return Comparison(columns, patches)


def _column(path: Path, reports: dict[Path, Report]) -> Column:
    run = path if is_run(path) else run_of(path.resolve())
    if run is None:
        document = require_valid(load(path))
        return Column(str(path), document, {"costs": _costs(document)})
    if run.resolve() not in reports:
        reports[run.resolve()] = read_report(run)
    report = reports[run.resolve()]
    variant = best(report) if path == run else variant_of(report, str(path))
    document = load(run / variant.file).document
    return Column(f"{report.name}:{variant.id}", document, {"costs": _costs(document), **_scored(report, variant)})


def _costs(document: Document) -> dict[str, float]:
    return {LABELS[key]: value for key, value in costs(resolve(document.organism)).to_data().items()}


def _scored(report: Report, variant: Variant) -> dict[str, dict[str, float]]:
    """Scores, terms of the objective with their weights, measures, and the curve of the longest training."""
    found: dict[str, dict[str, float]] = {"training": {"steps": variant.steps}}
    if variant.score is not None:
        found["scores"] = {report.primary.name: variant.score, **variant.scores}
    if variant.terms is not None:
        weights = dict(report.evolve.fitness)
        found["objective"] = {
            f"{name} x {weights[name]:g}" if name in weights else name: value
            for name, value in vars(variant.terms).items()
        }
    if variant.measures:
        found["measures"] = dict(zip(report.measures, variant.measures, strict=True))
    if variant.curves:
        found["loss by step"] = _curve(variant.curves[-1])
    return found


def _curve(curve: Curve) -> dict[str, float]:
    """The training loss at shares of the training."""
    last = curve[-1][0]
    return {f"{share:.0%}": min(curve, key=lambda point: abs(point[0] - share * last))[1] for share in SHARES}
