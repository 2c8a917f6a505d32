"""The honest control: children inherit trained weights, so the winner is held against its seed trained as long."""

from __future__ import annotations

from typing import Any

from evo.engines.jobs import Engine, Job
from evo.evolution.evaluate import FUNCTION, Task, outcome_of
from evo.evolution.journal import Journal
from evo.evolution.lineage import Lineage
from evo.evolution.observer import Observer
from evo.evolution.rundir import Settings

CONTROL = "control"
"""The fact in the journal."""


def control(settings: Settings, journal: Journal, engine: Engine, observer: Observer) -> dict[str, Any]:
    """Train the seed of the winner's line for as many steps as the winner's whole ancestry, and compare."""
    winner = str(journal.generations()[-1]["best"])
    lineage = Lineage(journal, settings.evolve.inherit)
    seed, steps = lineage.line(winner)[-1], lineage.steps(winner)
    observer.control_began(steps)
    task = Task(seed.document, settings.root, settings.device, settings.kernels, steps=steps, tolerance=None)
    (outcome,) = engine.map([Job(CONTROL, FUNCTION, task)])
    trained, own = outcome_of(outcome), journal.evaluation(winner)
    assert own is not None
    return {
        "winner": winner,
        "winner_bits_per_byte": own.bits_per_byte,
        "seed": seed.id,
        "steps": steps,
        "control_bits_per_byte": None if trained.cause else trained.bits_per_byte,
        "cause": trained.cause,
        "winner_beats_control": not trained.cause and own.bits_per_byte < trained.bits_per_byte,
    }
