"""Operators that move whole stages: remove, duplicate, swap, split, join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evo.compiler.resolve import stages_of
from evo.dsl.document import Document
from evo.dsl.organism import StageSpec
from evo.dsl.patch import Patch
from evo.dsl.paths import layer_path, merge_path, stage_path
from evo.dsl.tree import Path, replaced
from evo.evolution.operators.base import Proposal, WeightSources, fresh_name, moved
from evo.evolution.operators.layers import draw_mixer, inserted
from evo.evolution.operators.wiring import edges, rewired
from evo.evolution.sites import entries


@dataclass(frozen=True)
class Remove:
    """Removes a stage; its readers read what it read."""

    name: str = "remove"
    family: str = "shrink"

    def sites(self, document: Document) -> Sequence[int]:
        count = len(document.organism.stages)
        return range(count) if count > 1 else range(0)

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale, rng
        stages, reads = stages_of(document.organism), edges(document)
        return Proposal(without(document, stages, reads, site))


def without(document: Document, stages: list[StageSpec], reads: list[tuple[str, ...]], site: int) -> Patch:
    """The change that takes stage `site` out and wires its readers to its sources."""
    name, above = stages[site].name, reads[site]
    kept = [
        tuple(source for listed in row for source in (above if listed == name else (listed,)))
        for index, row in enumerate(reads)
        if index != site
    ]
    return rewired(document, [_reading_above(s, name, above) for s in (*stages[:site], *stages[site + 1 :])], kept)


def _reading_above(stage: StageSpec, name: str, above: tuple[str, ...]) -> StageSpec:
    """The stage with what it reads of `name` besides x taken from above it; an input of one source takes one only."""
    changes: dict[Path, Any] = {}
    for slot, listed in stage.written_sources().items():
        field = stage.source_fields()[slot]
        if slot != "x" and name in (listed or ()) and (field.many or len(above) == 1):
            found = dict.fromkeys(source for own in listed or () for source in (above if own == name else (own,)))
            changes[field.key,] = tuple(found) if field.many else above[0]
    return replaced(stage, changes)


@dataclass(frozen=True)
class Duplicate:
    """Repeats a stage under a new name, right after it, starting from the same weights."""

    name: str = "duplicate"
    family: str = "grow"

    def sites(self, document: Document) -> Sequence[int]:
        return range(len(document.organism.stages))

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale, rng
        stages, reads = stages_of(document.organism), edges(document)
        copy = replaced(stages[site], {("name",): fresh_name(document, stages[site].name)})
        origins = moved(stage_path(copy.name), stage_path(stages[site].name))
        return Proposal(inserted(document, stages, reads, site, copy), origins)


@dataclass(frozen=True)
class Swap:
    """Exchanges the layers of two neighbouring stages, weights included; names and wiring stay."""

    name: str = "swap"
    family: str = "refactor"

    def sites(self, document: Document) -> Sequence[int]:
        return range(len(document.organism.stages) - 1)

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale, rng
        stages, reads = stages_of(document.organism), edges(document)
        one, two = stages[site], stages[site + 1]
        stages[site] = replaced(two, {("name",): one.name})
        stages[site + 1] = replaced(one, {("name",): two.name})
        first, second = stage_path(one.name), stage_path(two.name)
        layers = moved(first, second) + moved(second, first)
        return Proposal(rewired(document, stages, reads), layers + own_gains(one.name, two.name))


@dataclass(frozen=True)
class Split:
    """Splits a stage in two, and gives the second half a mixer of its own (a bare split would compute the same)."""

    name: str = "split"
    family: str = "refactor"

    def sites(self, document: Document) -> Sequence[int]:
        stages = enumerate(stages_of(document.organism))
        return [i for i, stage in stages if len(stage.layer_names) > 1 and stage.part(stage.name, 0, 1) is not None]

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        stages, reads = stages_of(document.organism), edges(document)
        whole, layers = stages[site], stages[site].layer_names
        cut = int(rng.integers(1, len(layers)))
        name = fresh_name(document, whole.name)
        first, second = whole.part(whole.name, 0, cut), whole.part(name, cut, len(layers) - cut)
        mixer = draw_mixer(document, rng)
        if first is None or second is None or mixer is None:
            return None
        stages[site] = first
        mixers = entries(second, "mixer")
        if not mixers:
            return None
        second = replaced(second, {mixers[int(rng.integers(len(mixers)))].path: mixer})
        origins = _moved_layers((second, second.layer_names), (whole, layers[cut:]))
        return Proposal(inserted(document, stages, reads, site, second), origins)


@dataclass(frozen=True)
class Join:
    """Joins a stage to the one before it where nothing else reads between; the first one's settings win."""

    name: str = "join"
    family: str = "shrink"

    def sites(self, document: Document) -> Sequence[int]:
        stages, reads = stages_of(document.organism), edges(document)
        lasting = (i for i in range(len(stages) - 1) if _only_reader(stages, reads, i) and stages[i + 1].layer_names)
        return [i for i in lasting if stages[i].longer(1) is not None]

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale, rng
        stages, reads = stages_of(document.organism), edges(document)
        one, two = stages[site], stages[site + 1]
        joined = one.longer(len(two.layer_names))
        if joined is None:
            return None
        stages[site] = joined
        origins = _moved_layers((joined, joined.layer_names[len(one.layer_names) :]), (two, two.layer_names))
        return Proposal(without(document, stages, reads, site + 1), origins)


def _only_reader(stages: list[StageSpec], reads: list[tuple[str, ...]], index: int) -> bool:
    name = stages[index].name
    return reads[index + 1] == (name,) and not any(name in listed for listed in reads[index + 2 :])


def own_gains(*names: str) -> WeightSources:
    """The gains on a stage's sources belong to its wiring: they stay where its layers go."""
    return tuple((merge_path(name), 0, merge_path(name)) for name in names)


def _moved_layers(new: tuple[StageSpec, tuple[str, ...]], old: tuple[StageSpec, tuple[str, ...]]) -> WeightSources:
    """The rows of some layers of a stage that some of another come from, in order."""
    pairs = zip(new[1], old[1], strict=True)
    return tuple(row for n, o in pairs for row in moved(layer_path(new[0].name, n), layer_path(old[0].name, o)))
