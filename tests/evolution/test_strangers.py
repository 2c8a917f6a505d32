"""Kinds that evo does not ship: a fidelity, an emitter and an engine of somebody else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from searches import Quiet, dump, seed_document, settings, variants

from evo.base.diagnostics import DiagnosticError
from evo.compiler.compute import whole_steps
from evo.dsl.document import parse
from evo.evolution import run
from evo.evolution.emitters.variation.spec import VariationSpec
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.evolution.search import Search
from evo.evolution.trial import Evaluation, Trial, WeightsRef
from evo.report.search import write_reports
from evo.tasks.bytes.spec import BytesSpec
from strangers import POINTS
from strangers.search import Afresh, Backwards, Halving


@pytest.fixture
def strangers(install: Callable[[Mapping[str, str]], None]) -> None:
    """Only the package's kinds of a search are installed: what mutation draws stays as it is."""
    roles = ("emitter.", "engine.", "fidelity.", "task.")
    install({name: value for name, value in POINTS.items() if name.startswith(roles)})


@pytest.mark.usefixtures("strangers")
def test_a_strangers_fidelity_promotes(tmp_path: Path) -> None:
    """Of all candidates the better half climbs a rung, on from its own weights; what climbed is shown and inherited."""
    seen = Quiet()
    asked = settings(seed_document(steps=8), fidelity=Halving())
    run.start(tmp_path / "run", asked, seen)
    assert RunDirectory(tmp_path / "run").load().evolve.fidelity == Halving()
    journal = Journal(RunDirectory(tmp_path / "run").journal_file)
    first, second = journal.costs(BytesSpec.primary)
    assert len(first) == 7
    assert len(second) >= 3
    told = [id for event in seen.events if event[0] == "promoted" for id in event[1]]
    assert sorted(told) == sorted(f"{id}@1" for id in second)
    assert set(sorted(first, key=lambda id: (first[id], id))[:2]) <= set(second)
    for id in second:
        low, high = (journal.trial(WeightsRef(id, rung)) for rung in (0, 1))
        document = parse(low.candidate.document).document
        assert high.steps == max(2, whole_steps(asked.train_budget, document))
        assert (low.rungs, high.rungs, high.start) == ((low.steps, high.steps),) * 2 + (low.start,)
        assert high.done == document.train.schedule.shared(low.course)
        evaluation = journal.evaluation(high.ref)
        assert evaluation is not None
        variant = tmp_path / "run" / f"gen_{high.candidate.generation:04d}" / f"variant_{high.candidate.slot:02d}.yaml"
        assert f"held-out {evaluation.scores['bits_per_byte']:.4f} bits per byte" in variant.read_text()
    assert {row.trial.rung for row in journal.placements()} == {0, 1}
    trials = journal.trials()
    journal.close()
    report = write_reports(tmp_path / "run")
    assert report.trained.tokens == sum(trial.steps - trial.done for trial in trials) * 2 * 16


@pytest.mark.usefixtures("strangers")
def test_a_strangers_emitter_takes_its_turns(whole: Path, tmp_path: Path) -> None:
    """With two emitters every other slot is the second one's; the first one's are what it alone would have made."""
    emitters = (VariationSpec(), Afresh())
    run.start(tmp_path / "run", settings(emitters=emitters, generations=1), Quiet())
    assert RunDirectory(tmp_path / "run").load().evolve.emitters == emitters
    usual, mixed = (
        {row[0]: row for row in dump(folder)["candidates"] if row[1] == 1} for folder in (whole, tmp_path / "run")
    )
    assert mixed["0001/00"] == usual["0001/00"]
    assert mixed["0001/01"] != usual["0001/01"]
    assert mixed["0001/01"][7] == '["0000/00"]'


@pytest.mark.usefixtures("strangers")
def test_a_strangers_engine_changes_nothing(whole: Path, tmp_path: Path) -> None:
    """The run names its engine, which runs the trials in another order to the same journal."""
    seen = Quiet()
    run.start(tmp_path / "run", settings(engine=Backwards()), seen)
    assert dump(tmp_path / "run") == dump(whole)
    assert variants(tmp_path / "run") == variants(whole)
    order = [event[1] for event in seen.events if event[0] == "evaluated"]
    assert order[1:4] == ["0001/02", "0001/01", "0001/00"]


@pytest.mark.usefixtures("strangers")
def test_a_score_to_be_raised_is_raised() -> None:
    """With a task whose score is better the higher, the best is the highest, and a higher one has more objective."""
    journal = Journal(":memory:")
    search = Search(settings(seed_document(task={"kind": "graded"}), generations=3, surrogate=None), journal)
    while trials := search.ask():
        search.tell({trial: graded(trial) for trial in trials})
    last, trials = journal.generations()[-1], journal.trials()
    scores = {trial.candidate.id: graded(trial).scores["accuracy"] for trial in trials}
    assert last.best_score == max(scores.values())
    assert scores[str(last.best_scored)] == last.best_score
    terms = {trial.candidate.id: journal.terms(trial.ref) for trial in trials}
    by_score = sorted((scores[id], own.task) for id, own in terms.items() if own is not None)
    assert [task for _, task in by_score] == sorted(task for _, task in by_score)
    assert by_score[-1][1] > 0.5 > by_score[0][1]
    assert terms["0000/00"] is not None
    assert terms["0000/00"].task == 0.5


def graded(trial: Trial) -> Evaluation:
    """An evaluation that a hash makes up."""
    score = int(trial.candidate.hash[:4], 16) / 0xFFFF
    return Evaluation(scores={"accuracy": score, "gradient_evenness": 0.5}, measures=(score,) * 5)


@pytest.mark.usefixtures("strangers")
def test_seeds_with_different_scores_are_refused(tmp_path: Path) -> None:
    """Bits per byte and an accuracy cannot be compared: EVO621, and no folder is made."""
    seeds = seed_document(), seed_document(task={"kind": "graded"})
    with pytest.raises(DiagnosticError, match=r"EVO621 .* different primary scores: bits_per_byte, accuracy"):
        run.start(tmp_path / "run", settings(*seeds), Quiet())
    assert not (tmp_path / "run").exists()
