"""Growth: children that compute what their parents do, with room for more."""

from __future__ import annotations

from dataclasses import dataclass

from evo.base.streams import Stream
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.evolution.documents import document_of
from evo.evolution.emitters.base import Offspring, Situation
from evo.evolution.emitters.growth.spec import GrowthSpec
from evo.evolution.mutate import Child, NoChildError, mutate
from evo.evolution.operators.growth import GROWING, keeps


@dataclass(frozen=True)
class Growth:
    """Makes them of elites of the working archive."""

    spec: GrowthSpec

    def emit(self, situation: Situation, stream: Stream) -> Offspring | None:
        """See `Emitter.emit`."""
        for attempt in range(self.spec.attempts):
            draw = stream.child("attempt", attempt)
            parent = situation.breeders.id(self.spec.selection.pick(situation.breeders, draw.child("parent")))
            document = document_of(situation.journal.candidate(parent).document)
            before = resolve(document.organism)

            def accepts(child: Child, plan: Plan, before: Plan = before) -> bool:
                return keeps(before, plan) and situation.accepts(child, plan)

            count = 1 + int(draw.child("count").numpy().integers(self.spec.additions))
            try:
                child = mutate(
                    document,
                    draw.child("mutate"),
                    mutations=count,
                    scale=situation.scale,
                    accept=accepts,
                    operators=GROWING,
                    frozen=situation.frozen,
                )
            except NoChildError:
                continue
            return Offspring(child, (parent,))
        return None
