"""Operators that move whole stages: remove, duplicate, swap, split, join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evo.blocks.stages.layers.spec import BlocksSpec
from evo.dsl.document import Document
from evo.dsl.patch import Patch
from evo.dsl.spec import Spec
from evo.dsl.tree import replaced
from evo.evolution.operators.base import Origins, Proposal, fresh_name, stages_of
from evo.evolution.operators.layers import draw_mixer, inserted
from evo.evolution.operators.wiring import edges, rewired


@dataclass(frozen=True)
class Remove:
    """Removes a stage; its readers read what it read."""

    name: str = "remove"

    def sites(self, document: Document) -> Sequence[int]:
        count = len(document.organism.stages)
        return range(count) if count > 1 else range(0)

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale, rng
        stages, reads = stages_of(document), edges(document)
        return Proposal(without(document, stages, reads, site))


def without(document: Document, stages: list[BlocksSpec], reads: list[tuple[str, ...]], site: int) -> Patch:
    """The change that takes stage `site` out and wires its readers to its sources."""
    name, above = stages[site].name, reads[site]
    kept = [
        tuple(source for listed in row for source in (above if listed == name else (listed,)))
        for index, row in enumerate(reads)
        if index != site
    ]
    return rewired(document, [*stages[:site], *stages[site + 1 :]], kept)


@dataclass(frozen=True)
class Duplicate:
    """Repeats a stage under a new name, right after it, starting from the same weights."""

    name: str = "duplicate"

    def sites(self, document: Document) -> Sequence[int]:
        return range(len(document.organism.stages))

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale, rng
        stages, reads = stages_of(document), edges(document)
        copy = replaced(stages[site], {("name",): fresh_name(document, stages[site].name)})
        origins = ((f"stages.{copy.name}.", 0, f"stages.{stages[site].name}."),)
        return Proposal(inserted(document, stages, reads, site, copy), origins)


@dataclass(frozen=True)
class Swap:
    """Exchanges the layers of two neighbouring stages, weights included; names and wiring stay."""

    name: str = "swap"

    def sites(self, document: Document) -> Sequence[int]:
        return range(len(document.organism.stages) - 1)

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale, rng
        stages, reads = stages_of(document), edges(document)
        one, two = stages[site], stages[site + 1]
        stages[site] = replaced(two, {("name",): one.name})
        stages[site + 1] = replaced(one, {("name",): two.name})
        layers, gains = _renamed(two.name, one.name) + _renamed(one.name, two.name), own_gains(one.name, two.name)
        return Proposal(rewired(document, stages, reads), layers + gains)


@dataclass(frozen=True)
class Split:
    """Splits a stage in two, and gives the second half a mixer of its own (a bare split would compute the same)."""

    name: str = "split"

    def sites(self, document: Document) -> Sequence[int]:
        return [i for i, stage in enumerate(stages_of(document)) if stage.repeat > 1 and not stage.share]

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        stages, reads = stages_of(document), edges(document)
        whole = stages[site]
        first = int(rng.integers(1, whole.repeat))
        name = fresh_name(document, whole.name)
        stages[site] = _part(whole, whole.name, 0, first)
        second = _part(whole, name, first, whole.repeat - first)
        mixer = draw_mixer(document, rng)
        if mixer is None:
            return None
        second = replaced(second, {("mix", int(rng.integers(len(second.mix)))): mixer})
        origins = tuple((f"stages.{name}.{i}.", 0, f"stages.{whole.name}.{first + i}.") for i in range(second.repeat))
        return Proposal(inserted(document, stages, reads, site, second), origins)


@dataclass(frozen=True)
class Join:
    """Joins a stage to the one before it where nothing else reads between; the first one's settings win."""

    name: str = "join"

    def sites(self, document: Document) -> Sequence[int]:
        stages, reads = stages_of(document), edges(document)
        return [i for i in range(len(stages) - 1) if _only_reader(stages, reads, i) and not stages[i].share]

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale, rng
        stages, reads = stages_of(document), edges(document)
        one, two = stages[site], stages[site + 1]
        cycle = two.cycle if two.share else two.repeat
        moved = tuple(
            (f"stages.{one.name}.{one.repeat + i}.", 0, f"stages.{two.name}.{i % cycle}.") for i in range(two.repeat)
        )
        stages[site] = replaced(one, {("repeat",): one.repeat + two.repeat})
        return Proposal(without(document, stages, reads, site + 1), moved)


def _only_reader(stages: list[BlocksSpec], reads: list[tuple[str, ...]], index: int) -> bool:
    name = stages[index].name
    return reads[index + 1] == (name,) and not any(name in listed for listed in reads[index + 2 :])


def own_gains(*names: str) -> Origins:
    """The gains on a stage's sources belong to its wiring: they stay where its layers go."""
    return tuple((f"stages.{name}.merge", 0, f"stages.{name}.merge") for name in names)


def _renamed(old: str, new: str) -> Origins:
    return ((f"stages.{new}.", 0, f"stages.{old}."),)


def _part(stage: BlocksSpec, name: str, start: int, repeat: int) -> BlocksSpec:
    """Some consecutive layers of a stage as a stage: its cycles begin where the layers do."""

    def turned(items: tuple[str | Spec, ...]) -> tuple[str | Spec, ...]:
        return tuple(items[(start + i) % len(items)] for i in range(min(len(items), repeat)))

    changes = {"name": name, "repeat": repeat, "mix": turned(stage.mix), "ffn": turned(stage.ffn)}
    return replaced(stage, {(key,): value for key, value in changes.items()})
