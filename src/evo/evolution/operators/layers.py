"""Operators that put other mixers and feed-forwards into stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evo.blocks.stages.layers.spec import BlocksSpec
from evo.compiler.resolve import organism_scope
from evo.dsl.document import Document
from evo.dsl.patch import Patch, rewrite
from evo.dsl.references import mixer_problems
from evo.dsl.tree import replaced
from evo.evolution.composites import Entry, around, composites, inside
from evo.evolution.operators.base import Proposal, fresh_name, stages_of
from evo.evolution.operators.wiring import edges, rewired
from evo.evolution.sample import draw_spec, drawable

DRAWS = 30


def draw_mixer(document: Document, rng: np.random.Generator) -> Entry | None:
    """A mixer that fits the organism: a named pseudopod now and then, otherwise a fresh one. None if none was found."""
    organism = document.organism
    if organism.pseudopods and rng.random() < 0.3:
        names = sorted(organism.pseudopods)
        return names[int(rng.integers(len(names)))]
    scope = organism_scope(organism)
    for _ in range(DRAWS):
        mixer = draw_spec("mixer", rng)
        if not any(mixer_problems(mixer, scope, ())):
            return mixer
    return None


@dataclass(frozen=True)
class ReplaceMixer:
    """Puts another mixer into one place of a stage's cycle, or a composite around it, or one part of it alone."""

    name: str = "replace_mixer"

    def sites(self, document: Document) -> Sequence[tuple[int, int]]:
        return [(i, j) for i, stage in enumerate(stages_of(document)) for j in range(len(stage.mix))]

    def propose(
        self, document: Document, site: tuple[int, int], scale: float, rng: np.random.Generator
    ) -> Proposal | None:
        del scale
        index, place = site
        entry = self._variant(document, stages_of(document)[index].mix[place], rng)
        if entry is None:
            return None
        return Proposal(rewrite(document, {("organism", "stages", index, "mix", place): entry}))

    def _variant(self, document: Document, present: Entry, rng: np.random.Generator) -> Entry | None:
        draw, parts = rng.random(), inside(present)
        if parts and draw < 0.4:
            return parts[int(rng.integers(len(parts)))]
        if not parts and draw < 0.2 and (wraps := composites()):
            kind = wraps[int(rng.integers(len(wraps)))]
            return around(kind, present, lambda: draw_mixer(document, rng), rng)
        return draw_mixer(document, rng)


@dataclass(frozen=True)
class ReplaceFeedForward:
    """Puts another feed-forward into one place of a stage's cycle."""

    name: str = "replace_ffn"

    def sites(self, document: Document) -> Sequence[tuple[int, int]]:
        return [(i, j) for i, stage in enumerate(stages_of(document)) for j in range(len(stage.ffn))]

    def propose(
        self, document: Document, site: tuple[int, int], scale: float, rng: np.random.Generator
    ) -> Proposal | None:
        del scale
        index, place = site
        others = [kind for kind in drawable("ffn") if kind != stages_of(document)[index].ffn[place].kind]
        drawn = draw_spec("ffn", rng, others[int(rng.integers(len(others)))])
        return Proposal(rewrite(document, {("organism", "stages", index, "ffn", place): drawn}))


@dataclass(frozen=True)
class Insert:
    """Inserts a stage of one layer with a fresh mixer; what read the stage before it now reads the new one."""

    name: str = "insert"

    def sites(self, document: Document) -> Sequence[int]:
        return range(len(document.organism.stages))

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        stages, reads = stages_of(document), edges(document)
        before = stages[site]
        name = fresh_name(document, before.name)
        mixer = draw_mixer(document, rng)
        if mixer is None:
            return None
        fresh: dict[str, Any] = {"name": name, "repeat": 1, "mix": (mixer,), "share": False}
        stage = replaced(before, {(key,): value for key, value in {**fresh, "ffn": before.ffn[:1]}.items()})
        return Proposal(inserted(document, stages, reads, site, stage))


def inserted(document: Document, stages: list[BlocksSpec], reads: Any, site: int, stage: BlocksSpec) -> Patch:
    """The change that puts `stage` after stage `site`, between it and its readers."""
    name = stages[site].name
    after = [tuple(stage.name if source == name else source for source in listed) for listed in reads[site + 1 :]]
    order = [*stages[: site + 1], stage, *stages[site + 1 :]]
    return rewired(document, order, [*reads[: site + 1], (name,), *after])
