"""A search of many generations of made-up trials: what a generation takes, and how much memory there is, all along.

    long_run.py GENERATIONS [POPULATION]

Children are the seed with other training seeds, so what is measured is the loop: journal, scheduling, judging,
archives, and what emitters ask of the past. Prints a line of JSON a tenth of the run: CPU seconds a generation, and the
most memory so far.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from searches import seed_document, settings
from test_noise import lucky

from evo.base.streams import Stream
from evo.dsl.canonical import content_hash, to_yaml
from evo.dsl.document import parse
from evo.dsl.rungs import AshaFidelity
from evo.dsl.selections import TournamentSelection
from evo.dsl.tree import replaced
from evo.evolution import search as module
from evo.evolution.candidate import Candidate, candidate_id
from evo.evolution.emitters.base import Situation
from evo.evolution.journal import Journal
from evo.evolution.search import Search


def emit(generation: int, situation: Situation) -> tuple[list[Candidate], dict[str, float]]:
    """Children of elites, told apart by their training seeds; emitters' questions are asked and left aside."""
    breeders, found = situation.breeders, list[Candidate]()
    assert len(breeders.gains) == len(breeders.terms)
    for slot in range(situation.evolve.population):
        index = TournamentSelection().pick(breeders, Stream(generation).child("slot", slot))
        parent = situation.journal.candidate(breeders.id(index))
        document = parse(parent.document).document
        child = replaced(document, {("train", "seed"): generation * situation.evolve.population + slot + 1})
        id, names = candidate_id(generation, slot), (parent.id,)
        found.append(Candidate(id, generation, slot, content_hash(child), to_yaml(child), "", ("number",), names))
        situation.known.add(content_hash(child))
    return found, {}


def memory_mb() -> float:
    """Resident memory at its highest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(generations: int, population: int) -> None:
    """Carry it out on a journal on disk."""
    asked = settings(
        seed_document(), generations=generations, population=population, cells=64, fidelity=AshaFidelity(eta=2, rungs=2)
    )
    with tempfile.TemporaryDirectory() as folder, patch.object(module, "emit", emit):
        journal = Journal(Path(folder) / "journal.sqlite")
        search, began, told = Search(asked, journal), time.process_time(), 0
        while trials := search.ask():
            search.tell({trial: lucky(trial) for trial in trials})
            if search.generation >= told + max(1, generations // 10):
                seconds = (time.process_time() - began) / (search.generation - told)
                row = {"generation": search.generation, "s a generation": round(seconds, 4), "MB": round(memory_mb())}
                print(json.dumps(row), flush=True)
                began, told = time.process_time(), search.generation


if __name__ == "__main__":
    main(*(int(given) for given in [*sys.argv[1:], "8"][:2]))
