"""`evo validate PATH...`: every fault of every file at once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.cli import view
from evo.cli.documents import Json, Paths, found_in


def command(paths: Paths, as_json: Json = False) -> int:
    """Check documents and show every fault.

    Syntax, schema and meaning of every file are checked; errors make the exit code 1, warnings do not.
    """
    reports = [_report(path) for path in found_in(paths)]
    errors = sum(report.count("error") for report in reports)
    if as_json:
        warnings = sum(report.count("warning") for report in reports)
        view.print_json("validate", {"files": [r.to_data() for r in reports], "errors": errors, "warnings": warnings})
    else:
        _print(reports)
    return 1 if errors else 0


@dataclass(frozen=True)
class _Report:
    """What is wrong with one file."""

    path: Path
    diagnostics: tuple[Diagnostic, ...]
    source: str
    content_hash: str | None

    def count(self, severity: str) -> int:
        return sum(diagnostic.severity == severity for diagnostic in self.diagnostics)

    def to_data(self) -> dict[str, Any]:
        return {
            "file": str(self.path),
            "valid": self.count("error") == 0,
            "content_hash": self.content_hash,
            "diagnostics": [diagnostic.to_data() for diagnostic in self.diagnostics],
        }


def _report(path: Path) -> _Report:
    from evo.compiler.check import check
    from evo.dsl.canonical import content_hash
    from evo.dsl.document import load

    try:
        loaded = load(path)
    except DiagnosticError as error:
        return _Report(path, error.diagnostics, str(error.source), None)
    diagnostics = tuple(check(loaded))
    is_valid = not any(diagnostic.severity == "error" for diagnostic in diagnostics)
    return _Report(path, diagnostics, loaded.text, content_hash(loaded.document) if is_valid else None)


def _print(reports: list[_Report]) -> None:
    for report in reports:
        view.show(report.diagnostics, report.source)
    errors, warnings = (sum(report.count(severity) for report in reports) for severity in ("error", "warning"))
    files = f"{len(reports)} file" + ("" if len(reports) == 1 else "s")
    faults = f"{errors} error{'' if errors == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}"
    print(f"{files}: {faults if errors or warnings else 'valid'}", file=sys.stderr if errors else sys.stdout)
