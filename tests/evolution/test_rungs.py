"""Rungs in a search: who climbs goes on where it stopped, scores are those of a finished training, and none is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from searches import LITTLE, Quiet, dump, seed_document, settings, variants

from evo.compiler.compute import step_flops
from evo.dsl.document import parse
from evo.dsl.rungs import AshaFidelity, HurdlesFidelity, HyperbandFidelity
from evo.dsl.schedules import ConstantSchedule, CosineSchedule, Course, ScheduleSpec, WsdSchedule
from evo.evolution import run
from evo.evolution.evaluate import TrialJob, evaluate
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.evolution.search import Search
from evo.evolution.trial import Evaluation, Trial, WeightsRef
from evo.report.search import elites

ASHA = AshaFidelity(eta=2, rungs=3)


@pytest.mark.parametrize(
    "schedule", [WsdSchedule(), WsdSchedule(warmup=0.3, decay=0.7), CosineSchedule(), ConstantSchedule()]
)
@pytest.mark.parametrize("rungs", [(3, 9, 27), (1, 2, 3), (40, 80, 200)])
def test_longer_trainings_share_what_they_say(schedule: ScheduleSpec, rungs: tuple[int, ...]) -> None:
    """Up to the shared step all longer trainings have the same rates; one rung alone is a plain schedule."""
    courses = [Course(steps, rungs[0], rungs[-1]) for steps in rungs]
    for short, long in pairwise(courses):
        shared = schedule.shared(short)
        assert 0 <= shared <= short.steps
        assert shared <= schedule.shared(long)
        assert [schedule.rate(s, short) for s in range(shared)] == [schedule.rate(s, long) for s in range(shared)]
    plain = Course.of(rungs[1])
    assert [schedule.rate(s, plain) for s in range(rungs[1])] == [schedule.scale(s, rungs[1]) for s in range(rungs[1])]


def test_a_rungs_score_is_taken_after_a_decay() -> None:
    """Warm-up, stable, decay: at its end each rung's rate has fallen, and the next rung goes on at the peak."""
    schedule = WsdSchedule(warmup=0.1, decay=0.2)
    short, long = Course(50, 50, 150), Course(150, 50, 150)
    assert (schedule.shared(short), schedule.shared(long)) == (40, 120)
    assert schedule.rate(49, short) < 0.1
    assert schedule.rate(49, long) == schedule.rate(40, long) == 1.0
    assert schedule.rate(0, short) == schedule.rate(0, long)


@pytest.mark.parametrize("kind", ["wsd", "cosine"])
def test_going_on_is_not_having_stopped(kind: str) -> None:
    """From the state of the rung below a trial comes to the same bytes as from its start: weights, optimizer, data
    and schedule go on."""
    document = seed_document(schedule={"kind": kind}, optimizer={"kind": "muon"})
    low = evaluate(TrialJob(document, ".", course=Course(4, 4, 9), is_kept=True, budget=LITTLE))
    done = parse(document).document.train.schedule.shared(Course(4, 4, 9))
    assert low.state
    top = TrialJob(document, ".", course=Course(9, 4, 9), done=done, budget=LITTLE)
    again, on = evaluate(top), evaluate(replace(top, state=low.state))
    assert on == again
    assert on.snapshot == again.snapshot
    assert on.scores["bits_per_byte"] < low.scores["bits_per_byte"]
    other = evaluate(replace(top, repeat=1))
    assert other.scores["bits_per_byte"] != on.scores["bits_per_byte"]


@pytest.fixture(scope="module")
def asked():
    """A search of three rungs."""
    return settings(seed_document(steps=8), fidelity=ASHA, population=4)


@pytest.mark.slow
def test_a_search_with_rungs(asked, tmp_path: Path) -> None:
    """Each rung has a share of the FLOPs; climbing takes only what is missing; seeds climb all; states are gone at the
    end, and a search that lost every state on its way ends with the same bytes."""
    run.start(tmp_path / "run", asked, Quiet())
    journal = Journal(RunDirectory(tmp_path / "run").journal_file)
    trials, budget = journal.trials(), asked.train_budget.amount
    assert [t.rung for t in journal.trials(0)] == [0, 1, 2]
    assert Counter(trial.rung for trial in trials)[1] > 2
    for trial in trials:
        a_step = step_flops(parse(trial.candidate.document).document)
        assert abs(trial.steps * a_step - budget / 2 ** (2 - trial.rung)) <= 1.5 * a_step
        assert trial.rungs[trial.rung] == trial.steps
        below = trial.rung and journal.trial(trial.below)
        assert trial.done == (below and parse(trial.candidate.document).document.train.schedule.shared(below.course))
    last = journal.generations()[-1]
    assert journal.rung(str(last.best)) == 2
    held = elites(journal)
    assert len(set(held.values())) == len(held)
    journal.close()
    assert not (tmp_path / "run" / ".states").exists()
    run.start(tmp_path / "lost", asked, Quiet(), evaluate="test_rungs:without_state")
    assert dump(tmp_path / "lost") == dump(tmp_path / "run")
    assert variants(tmp_path / "lost") == variants(tmp_path / "run")


def without_state(job: TrialJob) -> Evaluation:
    """An evaluation that takes all steps itself."""
    return evaluate(replace(job, state=b""))


def made_up(trial: Trial, luck: float = 0.0) -> Evaluation:
    """An evaluation by hash, better at higher rungs, whose measures move with the rung."""
    draw = int(trial.candidate.hash[:6], 16) / 0xFFFFFF
    place = tuple((draw * 7 * (n + 1) + trial.rung / 3 + luck) % 1 for n in range(5))
    return Evaluation(scores={"bits_per_byte": 3 + draw - trial.rung / 2, "gradient_evenness": 0.5}, measures=place)


@pytest.mark.parametrize("fidelity", [ASHA, HyperbandFidelity(eta=2, rungs=3), HurdlesFidelity(eta=2, rungs=3)])
def test_no_candidate_holds_two_cells(fidelity) -> None:
    """Placed again at a higher rung a candidate leaves its cell; the archives, the journal and the report agree."""
    journal = Journal(":memory:")
    search = Search(settings(fidelity=fidelity, generations=4, population=8, cells=8), journal)
    while trials := search.ask():
        search.tell({trial: made_up(trial) for trial in trials})
    for archive in (search.archives.working, search.archives.result):
        ids = [elite.id for elite in archive.elites()]
        assert len(set(ids)) == len(ids)
    assert elites(journal) == {elite.cell: elite.id for elite in search.archives.result.elites()}
    held = {elite.cell: search.archives.standings[str(elite.id)] for elite in search.archives.result.elites()}
    for cell, own in held.items():
        assert journal.rung(own.id) == own.trial.rung
        (at,) = search.archives.result.cell_of([own.measures]).tolist()
        assert at == cell
    assert max(trial.rung for trial in journal.trials()) == 2
    last = journal.generations()[-1]
    tops = {t.candidate.id: journal.terms(t.ref) for t in journal.trials() if t.rung == 2}
    assert last.best == max(tops, key=lambda id: tops[id].objective)


def test_inherited_weights_are_paid_for() -> None:
    """A child that goes on from trained weights begins at the rung that its ancestry's compute leaves room in, and its
    total is that rung's; where none does it begins afresh at the lowest."""
    journal = Journal(":memory:")
    asked = settings(seed_document(steps=90), fidelity=ASHA, generations=4, population=6, inherit=True)
    search = Search(asked, journal)
    while trials := search.ask():
        search.tell({trial: made_up(trial) for trial in trials})
    amount, heirs = asked.train_budget.amount, 0
    for trial in journal.trials():
        a_step = step_flops(parse(trial.candidate.document).document)
        total = trial.start.charge + trial.steps * a_step
        assert abs(total - amount / 2 ** (2 - trial.rung)) <= 1.01 * a_step
        assert bool(trial.start.charge) == bool(trial.start.sources)
        if trial.start.sources:
            heirs += 1
            assert trial.entry > 0
            assert trial.steps * a_step >= 0.24 * amount
    assert heirs > 3
    single = Search(
        replace(asked, evolve=asked.evolve.model_copy(update={"fidelity": settings().evolve.fidelity})),
        Journal(":memory:"),
    )
    while trials := single.ask():
        assert not any(trial.start.sources for trial in trials)
        single.tell({trial: made_up(trial) for trial in trials})


def test_a_damaged_state_is_no_state(tmp_path: Path) -> None:
    """A state whose file was changed, or is gone, is empty; one that is whole comes back."""
    from evo.evolution.states import States

    states, ref = States(tmp_path), WeightsRef("0001/02", 1)
    assert states.get(ref) == b""
    states.put(ref, b"state")
    assert states.get(ref) == b"state"
    (file,) = (tmp_path / ".states").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"X")
    assert states.get(ref) == b""
    states.drop(ref)
    states.clear()
    assert not (tmp_path / ".states").exists()
