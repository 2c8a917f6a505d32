"""The document: one organism, how it is trained, how a search over it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.dsl.build import FAILED, Builder
from evo.dsl.evolve import EvolveSpec
from evo.dsl.genes import FIXED
from evo.dsl.organism import OrganismSpec
from evo.dsl.spec import Spec
from evo.dsl.train import TrainSpec
from evo.dsl.yaml import Node, node_of, read, read_file

LANGUAGE = 1
"""The language version this library reads and writes."""


class Document(Spec):
    """One YAML document."""

    evo: Annotated[int, FIXED]
    """The language version."""
    name: Annotated[str | None, Field(min_length=1, max_length=200), FIXED] = None
    """What people call it."""
    organism: OrganismSpec
    """The model."""
    train: TrainSpec = Field(default_factory=TrainSpec)
    """How it is trained."""
    evolve: Annotated[EvolveSpec, FIXED] = Field(default_factory=EvolveSpec)
    """How a search over it runs."""


@dataclass(frozen=True)
class Loaded:
    """A document with the text and the positions it came from."""

    document: Document
    node: Node
    text: str = ""
    file: str = "<data>"


def load(path: Path) -> Loaded:
    """Read a document from a file. Raises DiagnosticError with all faults of syntax and schema at once."""
    node, text = read_file(path)
    return Loaded(_build(node, text), node, text, str(path))


def parse(text: str, file: str = "<text>") -> Loaded:
    """Read a document from text."""
    node = read(text, file)
    return Loaded(_build(node, text), node, text, file)


def from_data(data: Any) -> Loaded:
    """A document from plain data, such as a patch's result."""
    node = node_of(data)
    return Loaded(_build(node, ""), node)


def _build(node: Node, text: str) -> Document:
    _check_version(node, text)
    builder = Builder(node)
    document = builder.spec(Document, ())
    if builder.diagnostics:
        raise DiagnosticError(builder.diagnostics, text)
    assert isinstance(document, Document) and document is not FAILED
    return document


def _check_version(node: Node, text: str) -> None:
    version = node.child("evo")
    if version is None or isinstance(version.value, bool) or not isinstance(version.value, int):
        return
    if version.value > LANGUAGE:
        message = f"this document is written in language version {version.value}; this evo reads up to {LANGUAGE}"
        raise DiagnosticError([Diagnostic("EVO220", message, version.span, "upgrade evo")], text)
    if version.value < 1:
        raise DiagnosticError([Diagnostic("EVO220", "language versions start at 1", version.span)], text)
