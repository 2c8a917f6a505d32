"""The candidates of a generation: its slots are dealt to the emitters in turn."""

from __future__ import annotations

from evo.base.streams import Stream
from evo.dsl.canonical import to_yaml
from evo.evolution.candidate import Candidate, candidate_id
from evo.evolution.emitters.base import Offspring, Situation, make_emitter


def emit(generation: int, situation: Situation) -> list[Candidate]:
    """The candidates of a generation; their hashes join those that are known.

    Slot i belongs to emitter i modulo their number. A slot for which its emitter finds nothing new stays empty.
    """
    emitters = [make_emitter(spec) for spec in situation.evolve.emitters]
    stream = Stream(situation.evolve.seed).child("generation", generation)
    found: list[Candidate] = []
    for slot in range(situation.evolve.population):
        offspring = emitters[slot % len(emitters)].emit(situation, stream.child("slot", slot))
        if offspring is not None:
            situation.known.add(offspring.child.hash)
            found.append(_candidate(generation, slot, offspring))
    return found


def _candidate(generation: int, slot: int, offspring: Offspring) -> Candidate:
    child = offspring.child
    return Candidate(
        id=candidate_id(generation, slot),
        generation=generation,
        slot=slot,
        hash=child.hash,
        document=to_yaml(child.document),
        patch=child.patch.to_yaml(),
        operators=child.operators,
        parents=offspring.parents,
        origins=child.origins,
    )
