"""Files of documents with everything that is wrong with them: syntax, schema and meaning at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evo.base.diagnostics import Diagnostic, DiagnosticError, in_order
from evo.compiler.check import check, missing_files
from evo.dsl.document import Loaded, examine
from evo.dsl.yaml import read_text


@dataclass(frozen=True)
class Examined:
    """One file with everything that is wrong with it; `loaded` is None where there is an error.

    sources: the text of every file that a diagnostic is in, by name: of this one, of what it extends, of overrides.
    """

    path: Path
    text: str
    diagnostics: tuple[Diagnostic, ...]
    loaded: Loaded | None = None
    sources: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def errors(self) -> list[Diagnostic]:
        """The faults that are no warnings."""
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "error"]

    @property
    def warnings(self) -> list[Diagnostic]:
        """The others."""
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "warning"]


def examine_file(path: Path, overrides: Sequence[str] = (), root: Path | None = None) -> Examined:
    """Syntax, schema and meaning of a document, all faults at once.

    overrides: values from outside, `KEY=VALUE`. root: where files that it names start from, if they have to be there.
    """
    try:
        text = read_text(path)
    except DiagnosticError as error:
        return Examined(path, "", error.diagnostics)
    read = examine(text, str(path), overrides)
    faults = [*read.faults, *(check(read.loaded) if read.loaded else ())]
    if root is not None and read.loaded is not None:
        faults += missing_files(read.loaded, root)
    found = in_order(faults)
    is_valid = all(fault.severity == "warning" for fault in found)
    return Examined(path, text, tuple(found), read.loaded if is_valid else None, read.sources)
