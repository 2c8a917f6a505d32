"""Operators that put other mixers and feed-forwards into stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evo.blocks.stages.layers.spec import BlocksSpec
from evo.compiler.resolve import organism_scope
from evo.dsl.document import Document
from evo.dsl.index import FORMS, form_class, kinds
from evo.dsl.patch import Patch, rewrite
from evo.dsl.references import mixer_problems
from evo.dsl.spec import Spec
from evo.dsl.tree import replaced
from evo.evolution.operators.base import Proposal, fresh_name, stages_of
from evo.evolution.operators.wiring import edges, rewired
from evo.evolution.sample import draw_spec

DRAWS = 30


def draw_mixer(document: Document, rng: np.random.Generator) -> str | Spec:
    """A mixer that fits the organism: a named pseudopod now and then, otherwise a fresh one."""
    organism = document.organism
    if organism.pseudopods and rng.random() < 0.3:
        names = sorted(organism.pseudopods)
        return names[int(rng.integers(len(names)))]
    scope = organism_scope(organism)
    for _ in range(DRAWS):
        mixer = draw_spec("mixer", rng)
        if not any(mixer_problems(mixer, scope, ())):
            return mixer
    return draw_spec("mixer", rng, "convolution")


@dataclass(frozen=True)
class ReplaceMixer:
    """Puts another mixer into one place of a stage's cycle, or sets one beside it, or takes one of a pair away."""

    name: str = "replace_mixer"

    def sites(self, document: Document) -> Sequence[tuple[int, int]]:
        return [(i, j) for i, stage in enumerate(stages_of(document)) for j in range(len(stage.mix))]

    def propose(
        self, document: Document, site: tuple[int, int], scale: float, rng: np.random.Generator
    ) -> Proposal | None:
        del scale
        index, place = site
        entry = self._variant(document, stages_of(document)[index].mix[place], rng)
        return Proposal(rewrite(document, {("organism", "stages", index, "mix", place): entry}))

    def _variant(self, document: Document, present: str | Spec, rng: np.random.Generator) -> str | Spec:
        draw = rng.random()
        branches = getattr(present, "parallel", None)
        if branches is not None and draw < 0.4:
            return branches[int(rng.integers(len(branches)))]
        if branches is None and draw < 0.2 and "parallel" in FORMS["mixer"]:
            form = form_class("mixer", "parallel")
            return form.model_validate({"parallel": (present, draw_mixer(document, rng))})
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
        others = [kind for kind in kinds("ffn") if kind != stages_of(document)[index].ffn[place].kind]
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
        fresh: dict[str, Any] = {"name": name, "repeat": 1, "mix": (draw_mixer(document, rng),), "share": False}
        stage = replaced(before, {(key,): value for key, value in {**fresh, "ffn": before.ffn[:1]}.items()})
        return Proposal(inserted(document, stages, reads, site, stage))


def inserted(document: Document, stages: list[BlocksSpec], reads: Any, site: int, stage: BlocksSpec) -> Patch:
    """The change that puts `stage` after stage `site`, between it and its readers."""
    name = stages[site].name
    after = [tuple(stage.name if source == name else source for source in listed) for listed in reads[site + 1 :]]
    order = [*stages[: site + 1], stage, *stages[site + 1 :]]
    return rewired(document, order, [*reads[: site + 1], (name,), *after])
