"""The candidates of a generation: its slots are dealt to the emitters in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import TypeAlias

from evo.base.streams import Stream
from evo.dsl.canonical import to_yaml
from evo.evolution.candidate import Candidate, candidate_id
from evo.evolution.emitters.base import Offspring, Situation, make_emitter

Choose: TypeAlias = Callable[[Sequence[Offspring]], tuple[Offspring, float | None]]


def emit(
    generation: int, situation: Situation, choose: Choose = lambda children: (children[0], None), pool: int = 1
) -> tuple[list[Candidate], dict[str, float]]:
    """The candidates of a generation, whose hashes join those that are known; and by candidate what was guessed of it.

    Slot i belongs to emitter i modulo their number. A slot for which its emitter finds nothing new stays empty. choose:
    one of up to `pool` children that an emitter makes for a slot, with a guess at it if there was one; those that are
    not guided make one.
    """
    specs = situation.evolve.emitters
    emitters = [make_emitter(spec) for spec in specs]
    stream = Stream(situation.evolve.seed).child("generation", generation)
    found: list[Candidate] = []
    guesses: dict[str, float] = {}
    for slot in range(situation.evolve.population):
        own, turn = stream.child("slot", slot), slot % len(emitters)
        further = range(1, pool if specs[turn].is_guided else 1)
        streams = [own, *(own.child("further", number) for number in further)]
        drawn = [emitters[turn].emit(situation, stream) for stream in streams]
        children = [offspring for offspring in drawn if offspring is not None]
        if not children:
            continue
        offspring, guess = choose(children) if specs[turn].is_guided else (children[0], None)
        situation.known.add(offspring.child.hash)
        found.append(_candidate(generation, slot, offspring))
        if guess is not None and isfinite(guess):
            guesses[found[-1].id] = guess
    return found, guesses


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
