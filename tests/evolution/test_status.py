"""`evo status` and `evo watch`: a run seen from another shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from searches import Quiet, seed_document, settings

from commands import Evo
from evo import open_run
from evo.evolution import run
from evo.evolution.status import Status, status


class Looking(Quiet):
    """Asks for the status at every evaluation."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.seen = path, list[Status]()

    def evaluated(self, trial: Any, evaluation: Any, seconds: float) -> None:
        self.seen.append(status(self.path))


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Looking:
    """A run that is looked at while it goes on."""
    observer = Looking(tmp_path_factory.mktemp("run") / "run")
    run.start(observer.path, settings(seed_document(), generations=1), observer)
    return observer


def test_a_run_is_seen_while_it_goes_on(looked: Looking) -> None:
    """Each evaluation counts as soon as it is recorded; the run is going on, and at the end finished."""
    assert [(s.generation, s.evaluated, s.trials) for s in looked.seen] == [(0, 1, 1), (1, 1, 3), (1, 2, 3), (1, 3, 3)]
    assert all(s.is_going_on and not s.is_finished for s in looked.seen)
    assert looked.seen[-1].best == "0000/00"
    end = status(looked.path)
    assert (end.is_finished, end.is_going_on, end.candidates, end.failures) == (True, False, 4, {})
    assert end.busy_s > 0


def test_status_and_watch_print_it(looked: Looking, evo: Evo) -> None:
    """A line for people, an object for programs; watching a finished run ends at once; no run is EVO600."""
    shown = evo("status", looked.path)
    assert shown.out.startswith("finished: generation 1 of 1, 3 of 3 trials evaluated; 4 candidates in all")
    scored = min(open_run(looked.path), key=lambda variant: variant.scores["bits_per_byte"])
    assert f"; best bits per byte {scored.scores['bits_per_byte']:.4f} ({scored.id})\n" in shown.out
    assert evo("watch", looked.path).out == shown.out
    assert evo("status", looked.path, "--json").json["is_finished"] is True
    assert "EVO600" in evo("status", looked.path.parent).err
