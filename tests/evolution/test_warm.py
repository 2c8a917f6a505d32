"""Searches that begin from a finished run's weights: what is begun from, what is paid for it, and what is refused."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from searches import Quiet, dump, settings, variants
from test_extension import StopError, Stopping

from commands import Evo
from evo.base.diagnostics import DiagnosticError
from evo.base.rundirs import exact_beside
from evo.compiler.compute import used
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_yaml
from evo.dsl.document import load as load_document
from evo.dsl.evolve import VerifySpec
from evo.dsl.rungs import AshaFidelity
from evo.evolution import run
from evo.evolution.documents import document_of
from evo.evolution.inheritance import starting_weights
from evo.evolution.journal import Journal
from evo.evolution.lineage import Lineage
from evo.evolution.rundir import RunDirectory
from evo.evolution.settings import Settings
from evo.evolution.trial import FOUNDING, WeightsRef
from evo.evolution.verdict import trainings, verdict
from evo.evolution.warm import variant_in, warmed
from evo.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that keeps the exact weights of its best alone."""
    path = tmp_path_factory.mktemp("source") / "run"
    run.start(path, settings(generations=1, population=2, keep_exact=1), Quiet())
    return path


def begun_warm(source: Path, *names: str, **evolve: object) -> tuple[Settings, tuple[bytes, ...]]:
    """A search that begins from variants of the run, or from its best."""
    files = [source / name for name in names] or [variant_in(source)]
    asked = settings(*(to_yaml(load_document(file).document) for file in files), **evolve)
    return warmed(asked, files)


def charged(folder: Path) -> list[float]:
    """Of each trial of a run at its first rung, what it takes, its founder's training included, beyond the budget."""
    own = RunDirectory(folder).load()
    budget = own.train_budget
    with closing(Journal(RunDirectory(folder).journal_file)) as journal:
        trials = journal.trials()
    total = own.age + budget.amount * own.evolve.fidelity.shares[-1]
    steps = [used(budget, document_of(trial.candidate.document), 1) for trial in trials]
    assert all(trial.start.sources for trial in trials)
    taken = [t.start.charge + used(budget, document_of(t.candidate.document), t.steps) for t in trials]
    return [(one - total) / step for one, step in zip(taken, steps, strict=True)]


def test_all_begin_from_the_best(source: Path, tmp_path: Path) -> None:
    """A run's best begins with its exact weights; children with what these are in them; all get the usual budget, and
    a verdict holds the winner against scratch for budget and age together."""
    own, weights = begun_warm(source, generations=1, population=2)
    (founder,), trained = own.founders, load_checkpoint(exact_beside(variant_in(source)))
    assert founder.is_exact
    assert (founder.offset, founder.charge) == (trained.step, used(own.train_budget, trained.document, trained.step))
    run.start(tmp_path / "whole", own, Quiet(), founders=weights)
    assert RunDirectory(tmp_path / "whole").load() == replace(own, task_digest=RunDirectory(source).load().task_digest)
    with closing(Journal(RunDirectory(tmp_path / "whole").journal_file)) as journal:
        lineage = Lineage(journal, own, tmp_path / "whole")
        first = lineage.weights(WeightsRef("0000/00", FOUNDING))
        assert first.keys() == trained.weights.keys()
        assert all(torch.equal(first[path], weight) for path, weight in trained.weights.items())
        for child in journal.candidates(1):
            document, begun = document_of(child.document), lineage.weights(WeightsRef(child.id, FOUNDING))
            expected, _ = starting_weights(resolve(document.organism), document, [first], child.origins)
            assert begun
            assert all(torch.equal(expected[path], weight) for path, weight in begun.items())
        seed = journal.evaluation(WeightsRef("0000/00"))
        assert seed is not None
        assert seed.scores["inherited"] == 1.0
        assert {trial.start.offset for trial in journal.trials()} == {founder.offset}
        judged = replace(own, evolve=own.evolve.model_copy(update={"verify": VerifySpec(seeds=1)}))
        arms = {row.arm: row for row in trainings(judged, journal) if row.arm}
        assert (arms["inherited"].start.sources, arms["scratch"].start.sources) == (
            (WeightsRef(arms["inherited"].candidate, FOUNDING),), ()
        )  # fmt: skip
        a_step = used(own.train_budget, document_of(arms["scratch"].document), 1)
        assert abs(arms["scratch"].steps * a_step - own.age - own.train_budget.amount) <= a_step / 2
    assert max(map(abs, charged(tmp_path / "whole"))) <= 0.5


@pytest.mark.slow
def test_a_warm_run_that_is_stopped_ends_the_same(source: Path, tmp_path: Path) -> None:
    """Stopped and resumed it comes to the same bytes, and to a verdict on what was inherited."""
    own, weights = begun_warm(source, generations=1, population=2, verify=VerifySpec(seeds=1))
    run.start(tmp_path / "whole", own, Quiet(), founders=weights)
    with pytest.raises(StopError):
        run.start(tmp_path / "cut", own, Stopping(2), founders=weights)
    run.resume(tmp_path / "cut", Quiet())
    assert dump(tmp_path / "cut") == dump(tmp_path / "whole")
    assert variants(tmp_path / "cut") == variants(tmp_path / "whole")
    with closing(Journal(RunDirectory(tmp_path / "cut").journal_file)) as journal:
        found = verdict(own, journal)
    assert found is not None
    assert found.inheritance is not None
    assert found.inheritance.difference is not None


@pytest.mark.slow
def test_several_founders_and_rungs(source: Path, tmp_path: Path) -> None:
    """A snapshot serves where there are no exact weights. Founders of different age, children that go on from their
    parents, and a run that is begun from a warm one: all trials of the top rung get equal compute."""
    names = [str(file.relative_to(source)) for file in sorted(source.glob("gen_*/variant_??.yaml"))]
    own, weights = begun_warm(
        source, *names[:2], generations=2, population=4, inherit=True, crossover=1.0,
        fidelity=AshaFidelity(eta=2, rungs=2),
    )  # fmt: skip
    assert [founder.is_exact for founder in own.founders] == [exact_beside(source / n).is_file() for n in names[:2]]
    run.start(tmp_path / "warm", own, Quiet(), founders=weights)
    with closing(Journal(RunDirectory(tmp_path / "warm").journal_file)) as journal:
        best = WeightsRef(str(journal.generations()[-1].best), journal.rung(str(journal.generations()[-1].best)) or 0)
        trial = journal.trial(best)
        took = trial.start.charge + used(own.train_budget, document_of(trial.candidate.document), trial.steps)
        tops = [trial for trial in journal.trials() if trial.rung == 1]
        for top in tops:
            a_step = used(own.train_budget, document_of(top.candidate.document), 1)
            total = top.start.charge + top.steps * a_step
            assert abs(total - own.age - own.train_budget.amount) <= 1.01 * a_step
        lineage = Lineage(journal, own, tmp_path / "warm")
        for candidate in journal.candidates():
            assert lineage.weights(WeightsRef(candidate.id, FOUNDING))
            assert lineage.weights(lineage.latest(candidate.id))  # its snapshot knows what it was taken from
    again, _ = begun_warm(tmp_path / "warm")
    assert again.founders[0].offset == trial.start.offset + trial.steps
    assert again.age == pytest.approx(took)


def test_a_founder_that_is_damaged_is_refused(source: Path, tmp_path: Path) -> None:
    """EVO600 at once, for weights that are not those the run began with; --force takes them away with the run."""
    own, weights = begun_warm(source, generations=1, population=1)
    run.start(tmp_path / "run", own, Quiet(), founders=weights)
    file = tmp_path / "run" / "founders" / "00.safetensors"
    assert load(file.read_bytes()).keys() == load(weights[0]).keys()
    file.write_bytes(weights[0][:-1] + bytes([weights[0][-1] ^ 1]))
    with pytest.raises(DiagnosticError, match="EVO600"):
        run.resume(tmp_path / "run", Quiet())
    RunDirectory(tmp_path / "run").remove()
    assert not file.parent.exists()


def test_warm_on_the_command_line(source: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--warm` takes a run or a variant; the dry run says what is begun from, and the run begins from the same."""
    code, out, _ = evo("evolve", source, "--warm", "--device", "cpu", "--dry-run", "--json")
    (told,) = json.loads(out)["dry_run"]["founders"]
    assert code == 0
    started: list[Settings] = []
    monkeypatch.setattr("evo.cli.evolve.carry_out", lambda folder, settings, *rest: started.append(settings))
    assert evo("evolve", variant_in(source), "--warm", "--device", "cpu").code == 0
    (founder,) = started[0].founders
    assert founder.model_dump() == told
    assert str(founder) == f"exact weights of {variant_in(source)} after {founder.offset} steps"


def test_what_has_no_weights_is_refused(source: Path, tmp_path: Path, evo: Evo) -> None:
    """EVO625: a document of no run, another text, the same organism twice; EVO609: nothing that fits."""
    best = variant_in(source)
    lone = Path(shutil.copy(best, tmp_path / "lone.yaml"))
    text = tmp_path / "own.txt"
    text.write_text("".join(f"line {n} of another text\n" for n in range(60_000)))
    cases = {
        ("EVO625", "no variant of a run"): (lone,),
        ("EVO625", "another text"): (best, "--set", f"train.task.corpus={text}"),
        ("EVO625", "the same organism"): (best, best),
        ("EVO609", "no weight"): (best, "--set", "organism.stages.0.name=elsewhere"),
    }
    for (expected, words), arguments in cases.items():
        code, _, err = evo("evolve", *arguments, "--warm", "--workers", 0, "--out", tmp_path / "run")
        assert (code, err[:6]) == (1, expected), err
        assert words in err
    assert not (tmp_path / "run").exists()
