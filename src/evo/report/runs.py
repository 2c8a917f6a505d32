"""Run directories as data: what every variant of one is and scored, as a row; who is best; who descends from whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

from evo.base.diagnostics import Diagnostic, DiagnosticError, suggestion
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.report.record import Report, Variant
from evo.report.search import search_report

OBJECTIVE = "objective"
Value = str | int | float | bool | None


def read_report(folder: Path) -> Report:
    """What a run holds so far, from its journal; the run may be going on.

    Raises:
        DiagnosticError: there is no run, or one of another version or damaged (EVO600).
    """
    directory = RunDirectory(folder)
    settings = directory.load()
    journal = Journal(directory.journal_file, only_read=True)
    try:
        return search_report(directory, settings, journal)
    finally:
        journal.close()


def row(report: Report, variant: Variant) -> dict[str, Value]:
    """A variant as one row of plain values, with a column for every score, term of the objective and measure."""
    scores = {} if variant.score is None else {report.primary.name: variant.score, **variant.scores}
    terms = {} if variant.terms is None else vars(variant.terms)
    return {
        "id": variant.id,
        "generation": variant.generation,
        "file": variant.file,
        "parents": " ".join(variant.parents),
        "operators": "+".join(variant.operators),
        "cell": report.cells.get(variant.id),
        "parameters": variant.parameters,
        "flops_per_token": variant.flops_per_token,
        "held_values": variant.held_values,
        "steps": variant.steps,
        "cause": variant.cause,
        OBJECTIVE: variant.objective,
        **{f"term_{name}": value for name, value in terms.items() if name != OBJECTIVE},
        **scores,
        **dict(zip(report.measures, variant.measures, strict=False)),
    }


def table(report: Report, variants: list[Variant]) -> tuple[list[str], list[list[Value]]]:
    """Rows under one heading: the columns of all of them, with None where one has no such value."""
    rows = [row(report, variant) for variant in variants]
    columns = list(dict.fromkeys(key for found in rows for key in found))
    return columns, [[found.get(column) for column in columns] for found in rows]


def elites(report: Report) -> list[Variant]:
    """Those that hold a cell of the archive, the highest objective first."""
    found = [report.by_id[id] for id in report.elites.values()]
    return sorted(found, key=lambda variant: -(variant.objective or 0.0))


def best(report: Report, by: str = OBJECTIVE) -> Variant:
    """The best variant by a column of `row`: by objective, by the task's score in its own direction, or by the least of
    anything else.

    Raises:
        ValueError: no variant was scored yet, or there is no such number.
    """
    scored = [(row(report, variant), variant) for variant in report.variants if variant.score is not None]
    numbers = [(float(value), variant) for found, variant in scored if _is_number(value := found.get(by))]
    if not numbers:
        known = sorted({key for found, _ in scored for key, value in found.items() if _is_number(value)})
        raise ValueError(f"no variant has a number '{by}': {suggestion(by, known)}there are {', '.join(known)}")
    if by == OBJECTIVE:
        return max(numbers, key=lambda pair: pair[0])[1]
    cost = report.primary.cost if by == report.primary.name else float
    return min(numbers, key=lambda pair: cost(pair[0]))[1]


def _is_number(value: Value) -> TypeGuard[float]:
    return isinstance(value, int | float)


def lineage(report: Report, id: str) -> list[Variant]:
    """A variant and its line of first parents, the seed first. Raises KeyError for an id that the run does not have."""
    return list(_line(report, id))[::-1]


def variant_of(report: Report, id: str) -> Variant:
    """The variant of an id, or of its file's path. Raises DiagnosticError where there is none (EVO608)."""
    name = Path(id).with_suffix("").as_posix()
    for variant in report.variants:
        if id == variant.id or name.endswith(Path(variant.file).with_suffix("").as_posix()):
            return variant
    help = f"{suggestion(id, report.by_id)}`evo elites {report.run}` lists the elites"
    raise DiagnosticError([Diagnostic("EVO608", f"{report.run} has no variant '{id}'", None, help)])


def _line(report: Report, id: str) -> Iterator[Variant]:
    variant = report.by_id[id]
    yield variant
    while variant.parents:
        variant = report.by_id[variant.parents[0]]
        yield variant
