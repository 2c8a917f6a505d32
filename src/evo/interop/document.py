"""A configuration as a valid document."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from evo.compiler.check import problems, require_valid
from evo.dsl.document import LANGUAGE, Document, from_data
from evo.interop.config import Config, read_config, unlike
from evo.interop.families import read, read_as
from evo.interop.gguf_file import SUFFIX, gguf_config
from evo.interop.nearest import FAULTS
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


def import_document(path: Path, start: Path | None = None, kind: str | None = None) -> Imported:
    """What a folder's configuration, or one file, a config.json or a GGUF file, describes.

    start: the folder that the document will stand in. Given that, it trains with the tokenizer.json of the model's
    folder, if there is one. kind: the type to read it as, where its own is not known.

    Raises:
        DiagnosticError: no configuration (EVO650), a key is missing or its value makes no sense (EVO651), what the
            language cannot say (EVO652), no package for GGUF files (EVO656), or faults of the document.
    """
    folder = path.resolve().parent if path.is_file() else path.resolve()
    task = None if start is None else _tokens_task(folder / "tokenizer.json", start)
    config = gguf_config(path) if path.suffix == SUFFIX else read_config(path)
    return imported_from(config, path.stem if path.suffix == SUFFIX else folder.name, task, kind)


def _tokens_task(file: Path, start: Path) -> Data | None:
    """The task of a tokenizer, as a document in `start` names it; None if there is no such file."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        vocab, added = said["model"]["vocab"], {token["id"] for token in said.get("added_tokens", ())}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ids = set(vocab.values()) if isinstance(vocab, dict) else set(range(len(vocab)))
    path = Path(os.path.relpath(file, start.resolve())).as_posix()
    return {"kind": "tokens", "tokenizer": path, "tokens": len(ids | added)}


def imported_from(config: Config, name: str, task: Data | None = None, kind: str | None = None) -> Imported:
    """The same from a configuration. name: what the document is called. task: what it trains on, if not bytes."""
    try:
        model = read(config) if kind is None else read_as(config, kind)
    except FAULTS as error:  # a value of another kind
        raise unlike(config, f"{type(error).__name__}: {error}") from error
    organism = model.organism
    if _is_position_unread(organism):
        organism = {key: value for key, value in organism.items() if key != "position"}
    data: Data = {"evo": LANGUAGE, "name": name or config.type, "organism": organism}
    if task is not None and task["tokens"] <= organism["vocab"]:
        data["train"] = {"task": task}
    return Imported(require_valid(from_data(data)), model.weights, config.types if kind is None else (kind,))


def _is_position_unread(organism: Data) -> bool:
    """Whether each mixer says its own, or has none: families set it without asking."""
    found = problems(from_data({"evo": LANGUAGE, "organism": organism}).document)
    return any((fault.code, fault.path) == ("EVO330", ("organism", "position")) for fault in found)
