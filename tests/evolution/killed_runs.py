"""Runs a search, kills it at every one of its events, resumes it, and prints what came of it. One process that forks.

With "strangers" as its last argument the search has kinds of the package `strangers`, which must be installed: in the
organism that it starts from, in its training, and in how it is searched.

Evaluations, children and cells are real the first time and remembered after that: what is tried is the order in which
things are written. `remembered` holds that children are asked for in the same situation.
An event is a statement of the journal, a file that is synced or renamed, or a word to the observer.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import searches
from schedules import remembered

import strangers
from evo.archive.space import Space, make_space
from evo.compiler.check import require_valid
from evo.dsl.canonical import to_yaml
from evo.dsl.document import from_data
from evo.dsl.evolve import VerifySpec
from evo.evolution import archives, run
from evo.evolution import journal as journal_module
from evo.evolution.emitters.variation.spec import VariationSpec
from evo.evolution.evaluate import TrialJob, evaluate
from evo.evolution.trial import Evaluation
from strangers.search import Afresh, Backwards, Halving, HyperbolicCooling

EVALUATE = "killed_runs:remembered_evaluate"
SETTINGS = searches.settings(verify=VerifySpec(seeds=1), repeats=2)
REMEMBERED: dict[bytes, Evaluation] = {}
SPACES: dict[bytes, Space] = {}


def remembered_evaluate(job: TrialJob) -> Evaluation:
    """The evaluation of a job, computed once."""
    key = pickle.dumps(job)
    if key not in REMEMBERED:
        REMEMBERED[key] = evaluate(job)
    return REMEMBERED[key]


def remembered_space(*arguments: Any) -> Space:
    """The space of a search, made once."""
    key = pickle.dumps(arguments)
    if key not in SPACES:
        SPACES[key] = make_space(*arguments)
    return SPACES[key]


class Fuse:
    """Counts events, and kills the process at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def event(self, *_: Any) -> None:
        """One more."""
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def lay(fuse: Fuse) -> searches.Quiet:
    """Let the fuse hear of everything; gives the observer to use."""
    connect = journal_module.sqlite3.connect

    def traced(*args: Any, **options: Any) -> Any:
        db = connect(*args, **options)
        db.set_trace_callback(fuse.event)
        return db

    journal_module.sqlite3.connect = traced
    for name in ("replace", "fsync"):
        setattr(os, name, _before(getattr(os, name), fuse.event))
    observer = searches.Quiet()
    for name in ("generation_began", "promoted", "repeated", "evaluated", "generation_ended", "verdict_began"):
        setattr(observer, name, fuse.event)
    return observer


def _before(function: Callable[..., Any], event: Callable[..., None]) -> Callable[..., Any]:
    def wrapped(*args: Any, **options: Any) -> Any:
        event()
        return function(*args, **options)

    return wrapped


def attempt(folder: Path, fuse_at: int) -> bool:
    """Start or resume a run in a child process that dies at an event; whether it did. Any other failure is raised."""
    pid = os.fork()
    if pid == 0:
        _carry_out(folder, lay(Fuse(fuse_at)))
    status = os.waitpid(pid, 0)[1]
    if status and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        raise RuntimeError(f"{folder.name}: resuming failed")
    return status != 0


def _carry_out(folder: Path, observer: searches.Quiet) -> None:
    """In the child: the run, then the end of the process, whatever happens."""
    try:
        if (folder / "run.yaml").exists():
            run.resume(folder, observer, evaluate=EVALUATE)
        else:
            run.start(folder, SETTINGS, observer, evaluate=EVALUATE)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def facts(folder: Path) -> Any:
    """All that two equal runs have in common."""
    return [searches.variants(folder), repr(searches.dump(folder)), (folder / "run.yaml").read_text()]


def main(root: Path, stride: int, twice: int) -> None:
    """Kill at every `stride`-th event, then at every `twice`-th again while resuming; print how each one ended."""
    with remembered(), patch.object(archives, "make_space", remembered_space):
        print(json.dumps(killed(root, stride, twice)))


def killed(root: Path, stride: int, twice: int) -> dict[str, Any]:
    """The number of events and of kills, and the events at which a killed run ended otherwise than the whole one."""
    run.start(root / "whole", SETTINGS, searches.Quiet(), evaluate=EVALUATE)
    expected, kills, unequal, at = facts(root / "whole"), 0, [], 1
    while True:
        folder = root / str(at)
        died = attempt(folder, at)
        while died and attempt(folder, twice):
            kills += 1
            twice += 7  # dies later each time, so that it ends
        if facts(folder) != expected:
            unequal.append(at)
        if not died:
            break
        kills, at = kills + 1, at + stride
    return {"events": at, "kills": kills, "unequal": unequal}


if __name__ == "__main__":
    import killed_runs

    if sys.argv[4:] == ["strangers"]:
        killed_runs.SETTINGS = searches.settings(
            to_yaml(require_valid(from_data(strangers.data()))),
            fidelity=Halving(),
            emitters=(VariationSpec(), Afresh()),
            engine=Backwards(),
            cooling=HyperbolicCooling(),
            verify=VerifySpec(seeds=1),
            repeats=2,
        )
    killed_runs.main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
