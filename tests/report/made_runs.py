"""A run directory whose journal was written by hand, so that every number of its report is known."""

from __future__ import annotations

from pathlib import Path

from evo.dsl.canonical import content_hash, to_yaml
from evo.dsl.document import Document, from_data
from evo.dsl.evolve import EvolveSpec
from evo.evolution.candidate import Candidate
from evo.evolution.fitness import Terms
from evo.evolution.journal import Journal, Placed
from evo.evolution.rundir import RunDirectory
from evo.evolution.settings import Settings
from evo.evolution.summary import Summary
from evo.evolution.trial import Evaluation, Trial, WeightsRef

BITS = {"0000/00": 4.0, "0001/00": 3.5, "0001/01": 4.2, "0002/00": 3.0}

SPACE = {"measures": list(EvolveSpec().measures), "low": [0.0] * 4, "high": [1.0] * 4, "centroids": [[0.5] * 4] * 4}


def document(width: int) -> Document:
    """An organism of some width."""
    stages = [{"name": "body", "mix": {"kind": "attention", "heads": 2}}]
    organism = {"width": width, "context": 16, "stages": stages}
    return from_data({"evo": 1, "organism": organism, "train": {"steps": 2, "batch": 2}}).document


def candidate(id: str, width: int, *parents: str, operators: tuple[str, ...] = ("number",)) -> Candidate:
    """A candidate of some width."""
    made = document(width)
    generation, slot = map(int, id.split("/"))
    return Candidate(id, generation, slot, content_hash(made), to_yaml(made), "", operators if parents else (), parents)


CANDIDATES = (
    candidate("0000/00", 16),
    candidate("0001/00", 32, "0000/00"),
    candidate("0001/01", 48, "0000/00", operators=("number", "choice")),
    candidate("0001/02", 64, "0000/00", operators=("choice",)),
    candidate("0002/00", 80, "0001/00", "0001/01", operators=("crossover",)),
)


def made_run(folder: Path) -> Path:
    """A run of three generations in a folder, written by hand; 0001/02 failed."""
    directory = RunDirectory(folder)
    directory.create(Settings((CANDIDATES[0].document,), ".", EvolveSpec(generations=2, population=3)), {})
    journal = Journal(directory.journal_file)
    journal.add_candidates(CANDIDATES)
    for row in CANDIDATES:
        trial = Trial(row, 0, 2)
        journal.add_trials(row.generation, [trial])
        journal.add_evaluation(trial.ref, evaluation(row.id), 1.5)
    for generation in range(3):
        rows = [WeightsRef(c.id) for c in CANDIDATES if c.generation == generation and c.id in BITS]
        terms = {ref: Terms(0.5, 0.5, 0.5, 1 / BITS[ref.candidate]) for ref in rows}
        archives = ("working", "result")
        placements = [Placed(r, archive, 3, "new", terms[r].objective, True) for r in rows for archive in archives]
        journal.add_generation(summary(generation, "0002/00" if generation == 2 else "x"), terms, placements)
    journal.set_fact("centroids", SPACE)
    for key, score in VERDICT.items():
        journal.set_fact(key, {"score": score, "cause": ""})
    journal.close()
    return directory.path


def summary(generation: int, best: str) -> Summary:
    """The summary of a generation."""
    return Summary(generation, 0.1, 1, 0, 0.25, 0.3, 0.3, best, 3.0, best, 1, 0)


VERDICT = {
    f"verdict/{id}/{seed}": 3.0 + seed / 100 - 0.5 * (id > "0001") for id in ("0000/00", "0002/00") for seed in range(3)
}


def evaluation(id: str) -> Evaluation:
    """What came of a candidate."""
    if id not in BITS:
        return Evaluation("diverged", "the loss became nan")
    snapshot = b"x" * 100
    sizes = {"snapshot_bytes": len(snapshot), "snapshot_increase": 0.01, "fp32_bytes": 4_000}
    scores = {"bits_per_byte": BITS[id], "train_loss": 2.0, "gradient_evenness": 0.5, "inherited": 1.0, **sizes}
    return Evaluation("", "", scores, (0.5,) * 5, snapshot, ((1, 5.0), (2, 4.5)))
