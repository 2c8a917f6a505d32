"""The parts of the seeds that a search keeps as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evo.dsl.document import Document
from evo.dsl.patch import Patch
from evo.dsl.tree import found_at


class Frozen:
    """Paths, as `evolve.freeze` lists them, and what each seed has there."""

    def __init__(self, paths: Sequence[str], seeds: Sequence[Document]) -> None:
        self._paths = [tuple(path.split(".")) for path in paths]
        self._kept = {path: [_at(seed, path) for seed in seeds] for path in paths}

    def __bool__(self) -> bool:
        return bool(self._paths)

    def touches(self, patch: Patch) -> bool:
        """Whether a patch changes something at one of the paths, or below it: mutation need not try such a one."""
        edited = [tuple(map(str, edit.path)) for edit in patch.edits]
        return any(place[: len(path)] == path for path in self._paths for place in edited)

    def allows(self, document: Document) -> bool:
        """Whether a document has at each path what one of the seeds has there."""
        return all(_at(document, path) in kept for path, kept in self._kept.items())


def _at(document: Document, path: str) -> Any:
    """The value at a path; the path itself where there is none."""
    try:
        return found_at(document, tuple(path.split(".")))
    except KeyError:
        return path
