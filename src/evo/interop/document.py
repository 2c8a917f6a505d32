"""A configuration as a valid document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evo.compiler.check import problems, require_valid
from evo.dsl.document import LANGUAGE, Document, from_data
from evo.interop.config import Config, read_config, unlike
from evo.interop.families import read
from evo.interop.parts import Data, Weights


@dataclass(frozen=True)
class Imported:
    """A document, where each of its weights lies in the checkpoint, and the type that it was read from.

    types: that type, and the one of the language model within it, if it holds one.
    """

    document: Document
    weights: Weights
    types: tuple[str, ...]

    @property
    def type(self) -> str:
        """The type of the whole."""
        return self.types[0]


def import_document(path: Path) -> Imported:
    """What a folder's configuration, or one file, describes.

    Raises:
        DiagnosticError: no configuration (EVO650), a key is missing or its value makes no sense (EVO651), what the
            language cannot say (EVO652), or faults of the document.
    """
    return imported_from(read_config(path), path.resolve().parent.name if path.is_file() else path.resolve().name)


def imported_from(config: Config, name: str) -> Imported:
    """The same from a configuration. name: what the document is called."""
    try:
        model = read(config)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # a value of another kind
        raise unlike(config, f"{type(error).__name__}: {error}") from error
    organism = model.organism
    if _is_position_unread(organism):
        organism = {key: value for key, value in organism.items() if key != "position"}
    data = {"evo": LANGUAGE, "name": name or config.type, "organism": organism}
    return Imported(require_valid(from_data(data)), model.weights, config.types)


def _is_position_unread(organism: Data) -> bool:
    """Whether each mixer says its own, or has none: families set it without asking."""
    found = problems(from_data({"evo": LANGUAGE, "organism": organism}).document)
    return any((fault.code, fault.path) == ("EVO330", ("organism", "position")) for fault in found)
