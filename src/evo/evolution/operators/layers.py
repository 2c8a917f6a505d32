"""Operators that put other mixers and feed-forwards into stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evo.compiler.resolve import all_stages, organism_scope, stages_of
from evo.dsl.document import Document
from evo.dsl.organism import StageSpec
from evo.dsl.patch import Patch, rewrite
from evo.dsl.references import mixer_problems
from evo.dsl.tree import Place
from evo.evolution.composites import Entry, around, composites, inside
from evo.evolution.operators.base import Proposal, fresh_name
from evo.evolution.operators.wiring import Edges, edges, rewired
from evo.evolution.sample import draw_spec, drawable
from evo.evolution.sites import entries

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
    """Puts another mixer into one place of a stage, or a composite around it, or one part of it alone."""

    name: str = "replace_mixer"
    family: str = "replace"

    def sites(self, document: Document) -> Sequence[Place]:
        return places(document, "mixer")

    def propose(self, document: Document, site: Place, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        entry = self._variant(document, site.value, rng)
        return None if entry is None else Proposal(rewrite(document, {site.path: entry}))

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
    """Puts another feed-forward into one place of a stage."""

    name: str = "replace_ffn"
    family: str = "replace"

    def sites(self, document: Document) -> Sequence[Place]:
        return places(document, "ffn")

    def propose(self, document: Document, site: Place, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        others = [kind for kind in drawable("ffn") if kind != site.value.kind]
        drawn = draw_spec("ffn", rng, others[int(rng.integers(len(others)))])
        return Proposal(rewrite(document, {site.path: drawn}))


@dataclass(frozen=True)
class Insert:
    """Inserts a stage of one layer with a fresh mixer; what read the stage before it now reads the new one."""

    name: str = "insert"
    family: str = "grow"

    def sites(self, document: Document) -> Sequence[int]:
        return range(len(document.organism.stages))

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        stages, reads = stages_of(document.organism), edges(document)
        name, mixer = fresh_name(document, stages[site].name), draw_mixer(document, rng)
        if mixer is None:
            return None
        models = (stages[site], *reversed(stages[:site]), *stages[site + 1 :])
        stage = next(filter(None, (model.single(name, mixer) for model in models)), None)
        return None if stage is None else Proposal(inserted(document, stages, reads, site, stage))


def places(document: Document, role: str) -> list[Place]:
    """Where specs of a role stand in the stages of a document."""
    found = ((path, place) for path, stage in all_stages(document.organism) for place in entries(stage, role))
    return [replace(place, path=(*path, *place.path)) for path, place in found]


def inserted(document: Document, stages: list[StageSpec], reads: Edges, site: int, stage: StageSpec) -> Patch:
    """The change that puts `stage` after stage `site`, between it and its readers."""
    name = stages[site].name
    after = [tuple(stage.name if source == name else source for source in listed) for listed in reads[site + 1 :]]
    order = [*stages[: site + 1], stage, *stages[site + 1 :]]
    return rewired(document, order, [*reads[: site + 1], (name,), *after])
