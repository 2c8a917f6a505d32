"""Files of documents with everything that is wrong with them: syntax, schema and meaning at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evo.base.diagnostics import Diagnostic, DiagnosticError, in_order
from evo.compiler.check import check
from evo.dsl.document import Loaded, examine
from evo.dsl.yaml import read_text


@dataclass(frozen=True)
class Examined:
    """One file with everything that is wrong with it; `loaded` is None where there is an error."""

    path: Path
    text: str
    diagnostics: tuple[Diagnostic, ...]
    loaded: Loaded | None = None

    @property
    def errors(self) -> list[Diagnostic]:
        """The faults that are no warnings."""
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "error"]

    @property
    def warnings(self) -> list[Diagnostic]:
        """The others."""
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "warning"]


def examine_file(path: Path) -> Examined:
    """Syntax, schema and meaning of a document, all faults at once."""
    try:
        text = read_text(path)
    except DiagnosticError as error:
        return Examined(path, "", error.diagnostics)
    loaded, faults = examine(text, str(path))
    found = in_order([*faults, *(check(loaded) if loaded else ())])
    is_valid = all(fault.severity == "warning" for fault in found)
    return Examined(path, text, tuple(found), loaded if is_valid else None)
