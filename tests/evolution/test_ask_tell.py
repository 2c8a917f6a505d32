"""Asking and telling: a search that a person drives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from searches import dump, settings

from evo.evolution.evaluate import evaluate
from evo.evolution.journal import Journal
from evo.evolution.search import Search
from evo.evolution.trial import Evaluation, Trial


def test_a_plain_loop_is_a_search(whole: Path) -> None:
    """Asking and telling by hand, some trials at a time and in any order, gives the journal that a run gives."""
    journal = Journal(":memory:")
    search = Search(settings(), journal)
    while trials := search.ask():
        assert search.ask() == trials
        last = trials[-1]
        search.tell({last: evaluate(search.job(last))})
        assert search.ask() == trials[:-1] or len(trials) == 1
    tables, expected = journal.dump(), dump(whole)
    told = [row for row in expected.pop("facts") if row[0] not in ("settings", "warnings")]
    assert told == tables.pop("facts")
    assert tables == expected
    assert search.ask() == []


def test_a_rung_cannot_be_skipped() -> None:
    """A fidelity that promotes past a rung, or who failed, is told so."""
    journal = Journal(":memory:")
    search = Search(settings(), journal)
    (trial,) = search.ask()
    with pytest.raises(ValueError, match="0000/00 reached rung None and cannot be promoted to rung 1"):
        search.scheduler._higher("0000/00", 1)
    search.tell({trial: toy(trial)})
    with pytest.raises(ValueError, match="0000/00 reached rung 0 and cannot be promoted to rung 2"):
        search.scheduler._higher("0000/00", 2)


def test_any_function_can_evaluate() -> None:
    """A search is driven by evaluations that train nothing; what is better by them is the best."""
    journal = Journal(":memory:")
    search = Search(settings(generations=3, inherit=False), journal)
    while trials := search.ask():
        search.tell({trial: toy(trial) for trial in trials})
    last = journal.generations()[-1]
    scores = {t.candidate.id: toy(t).scores["bits_per_byte"] for t in journal.trials()}
    assert len(scores) == 10
    assert last.best_score == min(scores.values())
    assert scores[str(last.best_scored)] == last.best_score


def toy(trial: Trial) -> Evaluation:
    """An evaluation that a hash makes up."""
    draws = np.random.Generator(np.random.Philox(int(trial.candidate.hash[:8], 16))).random(6).tolist()
    return Evaluation(scores={"bits_per_byte": 1 + draws[0], "gradient_evenness": 0.5}, measures=tuple(draws[1:]))
