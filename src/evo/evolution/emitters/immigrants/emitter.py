"""Fresh draws: organisms that descend from nobody."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evo.base.streams import Stream
from evo.compiler.resolve import resolve, stages_of
from evo.dsl.document import Document
from evo.dsl.organism import StageSpec
from evo.dsl.patch import diff, rewrite
from evo.dsl.tree import replaced
from evo.evolution.documents import document_of
from evo.evolution.emitters.base import Offspring, Situation
from evo.evolution.emitters.immigrants.spec import ImmigrantsSpec
from evo.evolution.mutate import NoChildError, mutate, validated
from evo.evolution.operators.base import Proposal
from evo.evolution.operators.layers import draw_mixer
from evo.evolution.sample import draw_spec
from evo.evolution.sites import entries


@dataclass(frozen=True)
class Immigrants:
    """Draws them. Lineage counts them as children of the seed whose task, context and vocabulary they have."""

    spec: ImmigrantsSpec

    def emit(self, situation: Situation, stream: Stream) -> Offspring | None:
        """See `Emitter.emit`."""
        for attempt in range(self.spec.attempts):
            draw = stream.child("attempt", attempt)
            seed = situation.seed(draw)
            document = document_of(seed.document)
            fresh = self._drawn(document, draw.child("fresh").numpy())
            if fresh is None or not situation.costs.holds(resolve(fresh.organism)):
                continue
            count = 1 + int(draw.child("count").numpy().integers(self.spec.mutations))
            drawn, frozen = draw.child("mutate"), situation.frozen
            try:
                child = mutate(fresh, drawn, mutations=count, accept=situation.accepts, frozen=frozen)
            except NoChildError:
                continue
            patch = diff(document, child.document)
            return Offspring(replace(child, patch=patch, operators=("fresh", *child.operators)), (seed.id,))
        return None

    def _drawn(self, document: Document, rng: np.random.Generator) -> Document | None:
        """The document with other stages; None where the draw led nowhere."""
        stages = list[StageSpec]()
        for index in range(1 + int(rng.integers(self.spec.stages))):
            mixer = draw_mixer(document, rng)
            singles = (model.single(f"fresh_{index}", mixer) for model in stages_of(document.organism) if mixer)
            stage = next(filter(None, singles), None)
            if stage is None:
                return None
            places = {place.path: draw_spec("ffn", rng) for place in entries(stage, "ffn")}
            stages.append(replaced(stage, places))
        valid = validated(document, Proposal(rewrite(document, {("organism", "stages"): tuple(stages)})))
        return None if valid is None else valid.document
