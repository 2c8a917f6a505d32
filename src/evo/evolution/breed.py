"""Asking: the next generation's candidates, a pure function of the archive, the stream and what is known already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evo.archive.cvt import CVTArchive
from evo.archive.store import Elite
from evo.base.streams import Stream
from evo.compiler.plan import Plan
from evo.dsl.canonical import to_yaml
from evo.dsl.document import parse
from evo.dsl.evolve import EvolveSpec
from evo.evolution.candidate import Candidate, candidate_id
from evo.evolution.crossover import cross
from evo.evolution.mutate import Child, NoChildError, mutate

TOURNAMENT = 2
"""Each parent is the better of this many elites drawn uniformly over the occupied cells."""
ATTEMPTS = 20


@dataclass(frozen=True)
class Breeder:
    """Makes children. known: content hashes that exist. lookup: candidates by id. max_flops: the costliest allowed."""

    evolve: EvolveSpec
    archive: CVTArchive
    lookup: Callable[[str], Candidate]
    max_flops: float

    def generation(self, generation: int, known: set[str], scale: float) -> list[Candidate]:
        """The candidates of a generation; their hashes join `known`. A slot where nothing new is found stays empty."""
        stream = Stream(self.evolve.seed).child("generation", generation)
        found: list[Candidate] = []
        for slot in range(self.evolve.population):
            candidate = self._slot(generation, slot, known, scale, stream.child("slot", slot))
            if candidate is not None:
                known.add(candidate.hash)
                found.append(candidate)
        return found

    def _slot(self, generation: int, slot: int, known: set[str], scale: float, stream: Stream) -> Candidate | None:
        for attempt in range(ATTEMPTS):
            draw = stream.child("attempt", attempt)
            parents = [self._parent(draw.child("parent", side)) for side in range(2)]
            crosses = parents[0].id != parents[1].id and draw.child("cross").numpy().random() < self.evolve.crossover
            try:
                child = self._child(parents if crosses else parents[:1], known, scale, draw)
            except NoChildError:
                continue
            return self._candidate(generation, slot, child, parents if crosses else parents[:1])
        return None

    def _parent(self, stream: Stream) -> Candidate:
        drawn = self.archive.select(TOURNAMENT, stream)
        best: Elite = max(drawn, key=lambda elite: elite.objective)
        return self.lookup(str(best.id))

    def _child(self, parents: list[Candidate], known: set[str], scale: float, stream: Stream) -> Child:
        def accept(child: Child, plan: Plan) -> bool:
            return plan.flops_per_token <= self.max_flops and child.hash not in known

        documents = [parse(parent.document).document for parent in parents]
        if len(documents) == 2:
            return cross(documents[0], documents[1], stream.child("crossover"), accept=accept)
        most = max(1, round(self.evolve.mutations * scale))
        count = 1 + int(stream.child("count").numpy().integers(most))
        return mutate(documents[0], stream.child("mutate"), mutations=count, scale=scale, accept=accept)

    def _candidate(self, generation: int, slot: int, child: Child, parents: list[Candidate]) -> Candidate:
        return Candidate(
            id=candidate_id(generation, slot),
            generation=generation,
            slot=slot,
            hash=child.hash,
            document=to_yaml(child.document),
            patch=child.patch.to_yaml(),
            operators=child.operators,
            parents=tuple(parent.id for parent in parents),
            origins=child.origins,
        )
