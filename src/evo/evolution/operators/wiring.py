"""The graph of stages as explicit edges, and the operator that changes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evo.compiler.resolve import sources, stages_of
from evo.dsl.document import Document
from evo.dsl.organism import StageSpec
from evo.dsl.patch import Patch, rewrite
from evo.dsl.paths import merge_path
from evo.dsl.spec import INPUT
from evo.dsl.tree import replaced
from evo.evolution.operators.base import NOBODY, Proposal, WeightSources, entry

Edges = list[tuple[str, ...]]


def edges(document: Document) -> Edges:
    """What each stage reads, written out."""
    return [sources(document.organism, index) for index in range(len(document.organism.stages))]


def rewired(document: Document, stages: Sequence[StageSpec], reads: Edges) -> Patch:
    """The change to these stages and edges; edges to the stage before are left implicit."""
    result: list[StageSpec] = []
    for index, (stage, listed) in enumerate(zip(stages, reads, strict=True)):
        listed = tuple(dict.fromkeys(listed))
        implied = (stages[index - 1].name,) if index else (INPUT,)
        result.append(replaced(stage, {("from",): None if listed == implied else listed}))
    return rewrite(document, {("organism", "stages"): tuple(result)})


@dataclass(frozen=True)
class Rewire:
    """Adds a skip connection from an earlier stage, or takes one away."""

    name: str = "rewire"
    family: str = "refactor"

    def sites(self, document: Document) -> Sequence[int]:
        return range(len(document.organism.stages))

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        stages, reads = stages_of(document.organism), edges(document)
        earlier = [INPUT, *(stage.name for stage in stages[:site])]
        missing = [name for name in earlier if name not in reads[site]]
        removable = list(reads[site]) if len(reads[site]) > 1 else []
        options = [(name, True) for name in missing] + [(name, False) for name in removable]
        if not options:
            return None
        name, adds = options[int(rng.integers(len(options)))]
        order = {known: index for index, known in enumerate(earlier)}
        changed = {*reads[site], name} if adds else {*reads[site]} - {name}
        before, reads[site] = reads[site], tuple(sorted(changed, key=order.__getitem__))
        return Proposal(rewired(document, stages, reads), kept_gains(stages[site].name, before, reads[site]))


def kept_gains(stage: str, before: tuple[str, ...], after: tuple[str, ...]) -> WeightSources:
    """The rows that let sources of a stage keep their gains, and begin new ones at zero."""
    path, place = merge_path(stage), {name: index for index, name in enumerate(before)}
    return tuple(
        (entry(path, index), 0, entry(path, place[name])) if name in place else (entry(path, index), NOBODY, "")
        for index, name in enumerate(after)
    )
