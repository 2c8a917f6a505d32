"""What an operator is, and what it proposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from evo.compiler.resolve import stages_of
from evo.dsl.document import Document
from evo.dsl.patch import Patch

WeightSources = tuple[tuple[str, int, str], ...]
"""Rows (prefix in the child, parent's index, prefix in that parent); the longest that begins a path counts.

Several rows of one prefix stand for the mean of what fits (`evo.evolution.inheritance`). A row between two `entry`
names speaks for one entry of a stack of gains.
"""
NOBODY = -1
"""The parent's index in the row of an entry that no parent has: it starts at zero."""


@dataclass(frozen=True)
class Proposal:
    """A patch of the parent, not yet tried, and where the child's renamed weights come from.

    origins: of weight paths that moved; everything else comes from parent 0 under its own path.
    """

    patch: Patch
    origins: WeightSources = ()


class Operator(Protocol):
    """One kind of mutation."""

    @property
    def name(self) -> str:
        """What the journal and the report call it."""
        ...

    @property
    def family(self) -> str:
        """Its class: `tune` moves genes, `replace` exchanges blocks, `grow` adds, `shrink` takes away, and `refactor`
        moves what is there. A choice of operators learns about classes."""
        ...

    def sites(self, document: Document) -> Sequence[Any]:
        """The places where it can act; empty where it cannot."""
        ...

    def propose(self, document: Document, site: Any, scale: float, rng: np.random.Generator) -> Proposal | None:
        """A change at one of its sites, or None if the draw led nowhere. `scale` in (0, 1] sizes numeric steps."""
        ...


def moved(new: str, old: str, parent: int = 0) -> WeightSources:
    """The row of a parent's weights below one path that are below another in the child."""
    return ((f"{new}.", parent, f"{old}."),)


def entry(path: str, index: int) -> str:
    """The name of one entry of a stack in `WeightSources`."""
    return f"{path}[{index}]"


def fresh_name(document: Document, base: str) -> str:
    """A stage name that the document does not use: `base`, `base_2`, ..."""
    taken = {stage.name for stage in stages_of(document.organism)}
    stem = base.rsplit("_", 1)[0] if base.rsplit("_", 1)[-1].isdigit() else base
    count = 2
    while f"{stem}_{count}" in taken:
        count += 1
    return f"{stem}_{count}"
