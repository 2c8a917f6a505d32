"""The document: one organism, how it is trained, how a search over it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from evo.base.diagnostics import Diagnostic, DiagnosticError, in_order
from evo.dsl.build import Builder
from evo.dsl.compose import Composed, compose
from evo.dsl.evolve import EvolveSpec
from evo.dsl.genes import FIXED
from evo.dsl.organism import OrganismSpec
from evo.dsl.spec import Spec
from evo.dsl.train import TrainSpec
from evo.dsl.yaml import Data, Node, node_of, read_text

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
    """A document with the text and the positions it came from.

    node: the whole document. text: that of the file. written: the nodes of the file alone, if it extends or defines
    something. sources: the text of every file that positions are in, by name. warnings: of how it was put together.
    """

    document: Document
    node: Node
    text: str = ""
    file: str = "<data>"
    written: Node | None = None
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    warnings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What can be read of a document in spite of its faults, with the faults and the texts that they are in.

    loaded: with a sound organism, which can be checked further even where the rest is unsound; None without.
    """

    loaded: Loaded | None
    faults: list[Diagnostic]
    sources: Mapping[str, str]


def load(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a document from a file. Raises DiagnosticError with all faults of syntax and schema at once."""
    return parse(read_text(path), str(path), overrides)


def examine(text: str, file: str = "<text>", overrides: Sequence[str] = ()) -> Findings:
    """Read as much of a document as there is. overrides: values from outside, such as `train.steps=200`."""
    try:
        whole = compose(text, file, Document, overrides)
        _check_version(whole.node)
    except DiagnosticError as error:
        sources = error.source if isinstance(error.source, Mapping) else {file: text}
        return Findings(None, list(error.diagnostics), sources)
    builder = Builder(whole.node)
    document = builder.spec(Document, ())
    faults = in_order([*whole.faults, *builder.diagnostics])
    if not isinstance(document, Document):
        document = _sound_part(whole.node)
    return Findings(document and _loaded(document, whole, text, file), faults, whole.sources)


def parse(text: str, file: str = "<text>", overrides: Sequence[str] = ()) -> Loaded:
    """Read a document from text, and from the files that it extends."""
    whole = compose(text, file, Document, overrides)
    return _loaded(_build(whole.node, whole.faults, whole.sources), whole, text, file)


def from_data(data: Data) -> Loaded:
    """A document from plain data, such as a patch's result."""
    node = node_of(data)
    return Loaded(_build(node, [], {}), node)


def _loaded(document: Document, whole: Composed, text: str, file: str) -> Loaded:
    written = whole.written if whole.is_composed else None
    warnings = tuple(fault for fault in whole.faults if fault.severity == "warning")
    return Loaded(document, whole.node, text, file, written, whole.sources, warnings)


def _build(node: Node, noted: list[Diagnostic], sources: Mapping[str, str]) -> Document:
    try:
        _check_version(node)
    except DiagnosticError as error:
        raise DiagnosticError(error.diagnostics, sources) from None
    builder = Builder(node)
    document = builder.spec(Document, ())
    faults = in_order([*(fault for fault in noted if fault.severity == "error"), *builder.diagnostics])
    if faults:
        raise DiagnosticError(faults, sources)
    assert isinstance(document, Document)
    return document


def _sound_part(node: Node) -> Document | None:
    organism = node.child("organism") and Builder(node).spec(OrganismSpec, ("organism",))
    train = Builder(node).spec(TrainSpec, ("train",)) if node.child("train") else None
    if not isinstance(organism, OrganismSpec):
        return None
    return Document(evo=LANGUAGE, organism=organism, train=train if isinstance(train, TrainSpec) else TrainSpec())


def _check_version(node: Node) -> None:
    version = node.child("evo")
    if version is None or isinstance(version.value, bool) or not isinstance(version.value, int):
        return
    if version.value > LANGUAGE:
        message = f"this document is written in language version {version.value}; this evo reads up to {LANGUAGE}"
        raise DiagnosticError([Diagnostic("EVO220", message, version.span, "upgrade evo")])
    if version.value < 1:
        raise DiagnosticError([Diagnostic("EVO220", "language versions start at 1", version.span)])
