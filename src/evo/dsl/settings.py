"""Files of settings beside the language: read as strictly as a document, every fault at its place."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from evo.base.diagnostics import DiagnosticError, in_order
from evo.dsl.build import Builder
from evo.dsl.spec import Spec
from evo.dsl.yaml import read_file

S = TypeVar("S", bound=Spec)


def read_settings(cls: type[S], path: Path) -> S:
    """What a YAML file says, as an instance of a class. Raises DiagnosticError with all faults of it at once."""
    node, text = read_file(path)
    builder = Builder(node)
    found = builder.spec(cls, ())
    if builder.diagnostics or not isinstance(found, cls):
        raise DiagnosticError(in_order(builder.diagnostics), {str(path): text})
    return found
