"""Exact weights: the best variants keep them, whatever the order of trials and interruptions; commands take them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from searches import seed_document, settings
from test_noise import lucky

from evo.api.documents import load
from evo.api.models import build
from evo.api.runs import open_run
from evo.base.rundirs import is_exact
from evo.dsl.document import parse
from evo.dsl.rungs import AshaFidelity
from evo.evolution.documents import plan_of
from evo.evolution.evaluate import pack_weights
from evo.evolution.journal import Journal
from evo.evolution.observer import Silent
from evo.evolution.onward import begun
from evo.evolution.prune import prune
from evo.evolution.run import start
from evo.evolution.rundir import RunDirectory
from evo.evolution.search import Search
from evo.evolution.trial import Evaluation, Trial
from evo.tasks.base import open_task
from evo.training.checkpoint import load_checkpoint
from evo.training.setup import make_trainer


def told(search: Search, trial: Trial) -> Evaluation:
    """Luck, with weights that name the trial where a worker would give some."""
    found, bar = lucky(trial), search.job(trial).exact
    if bar is None or not bar.is_cleared(found.scores, plan_of(trial.candidate.document)):
        return found
    return replace(found, weights=pack_weights({"trial": torch.tensor([trial.rung, *map(ord, trial.candidate.id)])}))


def kept(folder: Path) -> dict[str, bytes]:
    """The files of exact weights."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if is_exact(file)}


@pytest.mark.parametrize("fidelity", [None, AshaFidelity(eta=2, rungs=2)])
def test_the_best_are_kept_whatever_the_order(tmp_path: Path, fidelity: AshaFidelity | None) -> None:
    """The files are those of the three best standings, the same for a search that is begun anew after every trial."""
    more: dict[str, Any] = {} if fidelity is None else {"fidelity": fidelity}
    own = settings(generations=3, population=4, cells=4, **more)
    whole = Search(own, Journal(":memory:"), directory=RunDirectory(tmp_path / "whole"))
    while trials := whole.ask():
        whole.tell({trial: told(whole, trial) for trial in trials})
    journal, search = Journal(":memory:"), None
    while trials := (search := Search(own, journal, directory=RunDirectory(tmp_path / "cut"))).ask():
        search.tell({trials[-1]: told(search, trials[-1])})
    assert search is not None
    for each in (whole, search):
        each.exact.prune()
    by_rank = sorted(whole.archives.standings.values(), key=lambda own: (own.trial.rung, own.objective), reverse=True)
    best = {f"gen_{own.id[:4]}/variant_{own.id[5:]}.exact.safetensors": own for own in by_rank[:3]}
    found = kept(tmp_path / "whole")
    assert found.keys() == best.keys()
    assert found == kept(tmp_path / "cut")


def test_they_are_what_training_gave(tmp_path: Path) -> None:
    """Bit for bit, in a run on a task; models and trainings that go on take them, and pruning leaves them."""
    own = replace(settings(seed_document(), generations=1, population=2, keep_exact=1), root=str(tmp_path))
    start(tmp_path / "run", own, Silent())
    (name,) = kept(tmp_path / "run")
    file = tmp_path / "run" / name
    snapshot = file.with_name(file.name.replace(".exact", ""))
    saved, document = load_checkpoint(file), parse(snapshot.with_suffix(".yaml").read_text()).document
    trainer = make_trainer(document, open_task(document.train.task, tmp_path), "cpu", steps=saved.step)
    trainer.run()
    trained = dict(trainer.model.named_parameters())
    assert saved.weights.keys() == trained.keys()
    assert all(torch.equal(saved.weights[path], weight) for path, weight in trained.items())
    run = open_run(tmp_path / "run")
    model = run.model(run.best().id)
    for built in (model, build(snapshot)):
        assert all(torch.equal(weight, trained[path]) for path, weight in built.named_parameters())
    assert load(snapshot) == saved.document
    begun(snapshot, tmp_path / "on")
    assert (tmp_path / "on" / "checkpoint.safetensors").read_bytes() == file.read_bytes()
    prune(tmp_path / "run", frozenset(), is_dry=False)
    assert kept(tmp_path / "run").keys() == {name}
