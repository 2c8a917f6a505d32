"""The document: one organism, how it is trained, how a search over it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from evo.base.diagnostics import Diagnostic, DiagnosticError, in_order
from evo.dsl.build import Builder
from evo.dsl.evolve import EvolveSpec
from evo.dsl.genes import FIXED
from evo.dsl.organism import OrganismSpec
from evo.dsl.spec import Spec
from evo.dsl.train import TrainSpec
from evo.dsl.yaml import Data, Node, node_of, read_all, read_text

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

    @property
    def context(self) -> int:
        """Tokens a training sequence: `train.context`, or the organism's context where that is left out."""
        return self.train.context or self.organism.context


@dataclass(frozen=True)
class Loaded:
    """A document with the text and the positions it came from."""

    document: Document
    node: Node
    text: str = ""
    file: str = "<data>"


def load(path: Path) -> Loaded:
    """Read a document from a file. Raises DiagnosticError with all faults of syntax and schema at once."""
    return parse(read_text(path), str(path))


def examine(text: str, file: str = "<text>") -> tuple[Loaded | None, list[Diagnostic]]:
    """What can be read of a document in spite of its faults, and the faults.

    A sound organism is there to be checked further even where the rest is not; None stands for an unsound one.
    """
    try:
        node, duplicates = read_all(text, file)
        _check_version(node, text)
    except DiagnosticError as error:
        return None, list(error.diagnostics)
    builder = Builder(node)
    document = builder.spec(Document, ())
    faults = in_order([*duplicates, *builder.diagnostics])
    if not isinstance(document, Document):
        document = _sound_part(node)
    return document and Loaded(document, node, text, file), faults


def parse(text: str, file: str = "<text>") -> Loaded:
    """Read a document from text."""
    node, duplicates = read_all(text, file)
    return Loaded(_build(node, text, duplicates), node, text, file)


def from_data(data: Data) -> Loaded:
    """A document from plain data, such as a patch's result."""
    node = node_of(data)
    return Loaded(_build(node, "", []), node)


def _build(node: Node, text: str, duplicates: list[Diagnostic]) -> Document:
    _check_version(node, text)
    builder = Builder(node)
    document = builder.spec(Document, ())
    faults = in_order([*duplicates, *builder.diagnostics])
    if faults:
        raise DiagnosticError(faults, text)
    assert isinstance(document, Document)
    return document


def _sound_part(node: Node) -> Document | None:
    organism = node.child("organism") and Builder(node).spec(OrganismSpec, ("organism",))
    train = Builder(node).spec(TrainSpec, ("train",)) if node.child("train") else None
    if not isinstance(organism, OrganismSpec):
        return None
    return Document(evo=LANGUAGE, organism=organism, train=train if isinstance(train, TrainSpec) else TrainSpec())


def _check_version(node: Node, text: str) -> None:
    version = node.child("evo")
    if version is None or isinstance(version.value, bool) or not isinstance(version.value, int):
        return
    if version.value > LANGUAGE:
        message = f"this document is written in language version {version.value}; this evo reads up to {LANGUAGE}"
        raise DiagnosticError([Diagnostic("EVO220", message, version.span, "upgrade evo")], text)
    if version.value < 1:
        raise DiagnosticError([Diagnostic("EVO220", "language versions start at 1", version.span)], text)
