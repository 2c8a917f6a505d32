"""Paths in documents: relative ones start at the document's folder, so they change when a document goes elsewhere."""

from pathlib import Path

from evo.dsl.document import Document
from evo.dsl.patch import apply, rewrite
from evo.dsl.tree import Path as Place
from evo.dsl.yaml import Data


def relocated(document: Document, before: Path, after: Path) -> Document:
    """The document as it must be in another folder to name the same files.

    before, after: the folders that relative paths start from.
    """
    if before.resolve() == after.resolve():
        return document
    fields = document.train.task.relocated(before, after)
    changes: dict[Place, Data] = {("train", "task", name): value for name, value in fields.items()}
    return apply(rewrite(document, changes), document).document if changes else document
