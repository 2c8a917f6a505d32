"""The search: repeatable on any number of workers, and undisturbed by candidates that fail."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from searches import Quiet, dump, seed_document, settings, variants

from evo.base.diagnostics import DiagnosticError
from evo.compiler.compute import step_flops
from evo.data.corpus import load_corpus
from evo.dsl.budget import FlopsBudget
from evo.dsl.coolings import ReheatingCooling
from evo.dsl.document import parse
from evo.dsl.evolve import FitnessSpec, VerifySpec
from evo.dsl.schedules import WsdSchedule
from evo.dsl.yaml import read, write
from evo.engines.inline import InlineEngine
from evo.engines.jobs import Limits
from evo.evolution import run
from evo.evolution.evaluate import TrialJob, evaluate
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.evolution.settings import RUN_VERSION
from evo.evolution.trial import Evaluation
from evo.evolution.verdict import trainings, verdict

FOLDER = Path(__file__).parent


def code(caught: pytest.ExceptionInfo[DiagnosticError]) -> str:
    """The code of the only diagnostic."""
    (diagnostic,) = caught.value.diagnostics
    return diagnostic.code


def test_the_same_seed_gives_the_same_run(whole: Path, tmp_path: Path) -> None:
    """Equal settings give equal journals and equal files, bit for bit; another seed gives other children."""
    run.start(tmp_path / "again", settings(), Quiet())
    assert dump(tmp_path / "again") == dump(whole)
    assert variants(tmp_path / "again") == variants(whole)
    run.start(tmp_path / "other", settings(seed=1, generations=1, population=1), Quiet())
    ours, theirs = (dump(folder)["candidates"] for folder in (whole, tmp_path / "other"))
    assert ours[0] == theirs[0]
    assert ours[1][3] != theirs[1][3]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_matter(whole: Path, tmp_path: Path, workers: int) -> None:
    """One worker process or two leave what no worker leaves."""
    run.start(tmp_path / "run", settings(workers=workers), Quiet())
    assert dump(tmp_path / "run") == dump(whole)
    assert variants(tmp_path / "run") == variants(whole)


def test_what_a_run_holds(whole: Path) -> None:
    """One seed and three children a generation, each evaluated, scored and placed in both archives, once."""
    tables = dump(whole)
    assert len(tables["candidates"]) == len(tables["trials"]) == len(tables["evaluations"]) == 7
    assert [row[3] for row in tables["scores"]].count("objective") == 7
    assert len({row[3] for row in tables["candidates"]}) == 7
    assert len(tables["placements"]) == 14
    assert len(tables["generations"]) == 3
    assert {fact[0] for fact in tables["facts"]} == {"centroids", "guesses/1", "guesses/2", "settings", "warnings"}
    assert len(variants(whole)) == 7 * 2 + 3  # documents, snapshots, exact weights


def test_resuming_a_finished_run_restores_its_files(whole: Path) -> None:
    """Deleted and half-written variants come back as they were; leftovers of a kill go; nothing is evaluated again."""
    before = variants(whole)
    some = whole / "gen_0001" / "variant_00.yaml"
    some.unlink()
    some.with_suffix(".safetensors").write_bytes(b"half")
    (whole / "gen_0001" / ".variant_01.yaml.abc_12").write_bytes(b"half")
    (whole / "gen_0001" / "notes.txt").write_text("mine")
    seen = Quiet()
    run.resume(whole, seen)
    assert (whole / "gen_0001" / "notes.txt").read_text() == "mine"
    (whole / "gen_0001" / "notes.txt").unlink()
    assert variants(whole) == before
    assert seen.events == [("ended", 0), ("ended", 1), ("ended", 2)]


def hostile(job: TrialJob) -> Evaluation:
    """Fails by the candidate's place: raises, runs out of memory, leaks; the rest is evaluated."""
    name = dict(job.metadata).get("candidate", "")
    if name == "0001/00":
        raise RuntimeError("something broke")
    if name == "0001/01":
        raise MemoryError
    if name == "0002/00":
        return Evaluation("leak", "outputs before token 3 depend on later inputs")
    return evaluate(job)


def test_failures_are_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    """A candidate that raises, runs out of memory or leaks has its cause, no score and no cell; the rest is as ever."""
    sys.modules.setdefault("test_search", sys.modules[__name__])
    run.start(tmp_path / "run", settings(), Quiet(), evaluate="test_search:hostile")
    tables = dump(tmp_path / "run")
    causes = {row[0]: row[3] for row in tables["evaluations"] if row[3]}
    assert causes == {"0001/00": "error", "0001/01": "memory", "0002/00": "leak"}
    assert not {row[0] for row in tables["scores"] if row[3] != "inherited"} & set(causes)
    assert not {row[2] for row in tables["placements"]} & set(causes)
    assert not {parent for row in tables["candidates"] for parent in json.loads(row[7])} & set(causes)
    assert json.loads(tables["generations"][1][1])["failures"] == 2
    header = (tmp_path / "run" / "gen_0001" / "variant_00.yaml").read_text().splitlines()
    assert header[3].startswith("# no score: error: RuntimeError: something broke")


@pytest.mark.parametrize("cause", ["diverged", "timeout"])
def test_no_seed_is_a_diagnostic(tmp_path: Path, cause: str) -> None:
    """Seeds that diverge or take too long end the run with EVO620 and their causes, and so does resuming it."""
    how: Any = {"evaluate": "test_search:diverging"} if cause == "diverged" else {}
    sys.modules.setdefault("test_search", sys.modules[__name__])
    limit = 0.0 if cause == "timeout" else None
    with pytest.raises(DiagnosticError, match=f"EVO620 no seed could be evaluated .0000/00: {cause}") as caught:
        run.start(tmp_path / "run", settings(max_seconds=limit), Quiet(), **how)
    assert code(caught) == "EVO620"
    with pytest.raises(DiagnosticError, match="EVO620"):
        run.resume(tmp_path / "run", Quiet(), **how)


def diverging(job: TrialJob) -> Evaluation:
    """A training whose loss breaks at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WsdSchedule, "rate", lambda *args: float("inf"))
        return evaluate(job)


def test_seeds_that_fail_do_not_stop_the_others(tmp_path: Path) -> None:
    """With two seeds, one of which takes a text that is not there, the other founds the run."""
    with pytest.raises(DiagnosticError, match="EVO500"):
        run.start(tmp_path / "no", settings(seed_document(task={"kind": "bytes", "corpus": "no.txt"})), Quiet())
    assert not (tmp_path / "no").exists()
    run.start(tmp_path / "two", settings(seed_document(), seed_document(seed=1), generations=1, population=1), Quiet())
    assert [row[0] for row in dump(tmp_path / "two")["candidates"]][:2] == ["0000/00", "0000/01"]


def test_what_stands_in_the_way(whole: Path, tmp_path: Path) -> None:
    """A run that exists is EVO601 and untouched; a folder that is none, or one that is damaged, is EVO600."""
    with pytest.raises(DiagnosticError) as caught:
        run.start(whole, settings(), Quiet())
    assert code(caught) == "EVO601"
    for text in (None, "evo: 1\n", "evo_run: 3\n", "evo_run: 3\nhow: {}\nseeds: [1]\nevolve: {}\n", "- 1\n"):
        if text is not None:
            (tmp_path / "run.yaml").write_text(text)
        with pytest.raises(DiagnosticError) as caught:
            run.resume(tmp_path, Quiet())
        assert code(caught) == "EVO600", text
    for version in (RUN_VERSION - 1, RUN_VERSION + 1):
        other = (whole / "run.yaml").read_text().replace(f"evo_run: {RUN_VERSION}", f"evo_run: {version}")
        (tmp_path / "run.yaml").write_text(other)
        with pytest.raises(DiagnosticError, match=f"EVO600 .*its version is {version}, .* reads version {RUN_VERSION}"):
            run.resume(tmp_path, Quiet())
    (tmp_path / "run.yaml").write_text((whole / "run.yaml").read_text())
    (tmp_path / "journal.sqlite").write_bytes(b"not a database, whatever its name says" * 100)
    with pytest.raises(DiagnosticError) as caught:
        run.resume(tmp_path, Quiet())
    assert code(caught) == "EVO600"


def test_no_run_begins_inside_another(whole: Path, tmp_path: Path) -> None:
    """EVO601 below a run and below its generations, with the run's name; nothing is written. Beside it is fine."""
    before = sorted(whole.rglob("*"))
    for inner in (whole / "inner", whole / "gen_0001", whole / "gen_0001" / "deep" / "er"):
        with pytest.raises(DiagnosticError, match=f"EVO601 .* lies inside the run {whole}"):
            run.start(inner, settings(), Quiet(), force=True)
    assert sorted(whole.rglob("*")) == before


def test_the_verdict_is_held_to_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B19: its trainings too, in proportion to their steps, by themselves and by the engine."""
    limits: list[Limits] = []

    def noted(spec: Any, held: Limits) -> InlineEngine:
        limits.append(held)
        return InlineEngine()

    monkeypatch.setattr(run, "make_engine", noted)
    made = settings(generations=1, max_seconds=50.0, workers=2, verify=VerifySpec(seeds=1))
    run.start(tmp_path / "run", made, Quiet())
    found = Journal(tmp_path / "run" / "journal.sqlite")
    share = max(row.steps for row in trainings(made, found)) / min(trial.steps for trial in found.trials())
    assert [held.max_seconds for held in limits] == [2 * 50.0 + 60, 2 * 50.0 * max(1.0, share) + 60]


def test_one_process_at_a_time(whole: Path) -> None:
    """A run that another process carries out is EVO604, for resuming and for starting anew, and stays as it is."""
    script = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print('held', flush=True); input()"
    command = [sys.executable, "-c", script, str(RunDirectory(whole).lock_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        before = dump(whole)
        (whole / "run.yaml").write_text((whole / "run.yaml").read_text())
        (whole / "run.yaml").replace(whole / "edited")
        (whole / "edited").replace(whole / "run.yaml")
        for call in (lambda: run.resume(whole, Quiet()), lambda: run.start(whole, settings(), Quiet(), force=True)):
            with pytest.raises(DiagnosticError) as caught:
                call()
            assert code(caught) == "EVO604"
        other.communicate("")
    assert dump(whole) == before
    run.resume(whole, Quiet())


def test_two_starts_into_one_new_folder(tmp_path: Path) -> None:
    """The second is EVO604 before it writes anything, so the first one's settings stand over its journal."""
    folder = tmp_path / "run"
    with RunDirectory(folder).held():
        with pytest.raises(DiagnosticError) as caught:
            run.start(folder, settings(), Quiet())
        assert code(caught) == "EVO604"
        assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.slow
def test_force_starts_anew(whole: Path, tmp_path: Path) -> None:
    """`force` removes an earlier run, a stale journal of SQLite's own beside it too, and nothing else."""
    folder = tmp_path / "run"
    run.start(folder, settings(generations=1, population=1), Quiet())
    (folder / "journal.sqlite-journal").write_bytes(b"stale")
    (folder / "notes.txt").write_text("mine")
    run.start(folder, settings(), Quiet(), force=True)
    assert dump(folder) == dump(whole)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_text_that_changed_stops_a_resume(tmp_path: Path) -> None:
    """Resuming on another text than the run began with is EVO603."""
    from dataclasses import replace

    (tmp_path / "own.txt").write_bytes(b"some words to learn. " * 600)
    own = replace(
        settings(seed_document(task={"kind": "bytes", "corpus": "own.txt"}), generations=1, population=1),
        root=str(tmp_path),
    )
    run.start(tmp_path / "run", own, Quiet())
    run.resume(tmp_path / "run", Quiet())
    (tmp_path / "own.txt").write_bytes(b"other words to learn. " * 600)
    with pytest.raises(DiagnosticError) as caught:
        run.resume(tmp_path / "run", Quiet())
    assert code(caught) == "EVO603"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", 5),
        ("workers", "x"),
        ("workers", -1),
        ("workers", 10**6),
        ("max_seconds", "x"),
        ("max_seconds", -1),
        ("max_seconds", math.inf),
        ("max_memory", 0.5),
        ("max_memory", -1),
        ("more", 1),
    ],
)
def test_values_of_another_type_are_refused(whole: Path, tmp_path: Path, key: str, value: Any) -> None:
    """A run.yaml that holds what it cannot hold is EVO600 and names the key."""
    data = read((whole / "run.yaml").read_text()).plain()
    (tmp_path / "run.yaml").write_text(write({**data, "execution": {**data["execution"], key: value}}))
    with pytest.raises(DiagnosticError, match=rf"(?s)EVO600 .* is damaged: .*execution\.{key}"):
        run.resume(tmp_path, Quiet())


def test_settings_that_were_edited_are_refused(whole: Path, tmp_path: Path) -> None:
    """What results depend on may not change in the middle of a run: EVO603. Root, engine and workers may."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    data = read((folder / "run.yaml").read_text()).plain()
    before = dump(folder)
    edits: list[dict[str, Any]] = [
        {"evolve": {**data["evolve"], "seed": 5}},
        {"evolve": {**data["evolve"], "inherit": True}},
        {"evolve": {**data["evolve"], "fitness": {"task": 1.0}}},
        {"execution": {**data["execution"], "kernels": "reference"}},
        {"budget": {**data["budget"], "held_out_tokens": 1024}},
        {"seeds": [{**data["seeds"][0], "train": {**data["seeds"][0]["train"], "steps": 3}}]},
    ]
    for edit in edits:
        (folder / "run.yaml").write_text(write({**data, **edit}))
        with pytest.raises(DiagnosticError, match=r"EVO603 run\.yaml holds other settings"):
            run.resume(folder, Quiet())
    assert dump(folder) == before
    allowed = {"root": "/elsewhere", "evolve": {**data["evolve"], "engine": {"kind": "inline"}}}
    (folder / "run.yaml").write_text(write({**data, **allowed}))
    run.resume(folder, Quiet(), workers=3)
    assert dump(folder) == before


def test_settings_come_back(whole: Path) -> None:
    """What `run.yaml` says is what the run was started with."""
    loaded = RunDirectory(whole).load()
    assert loaded == replace(settings(), task_digest=loaded.task_digest)
    assert loaded.task_digest == load_corpus("shakespeare").digest
    odd = settings(growth=1.5, seed=7, cooling=ReheatingCooling(patience=2), fitness=FitnessSpec(task=1.0))
    RunDirectory(whole.parent / "odd").create(odd, {})
    assert RunDirectory(whole.parent / "odd").load() == odd


def judged(job: TrialJob) -> Evaluation:
    """Search: the document decides. Verdict: the seed does as well, and everybody is trained afresh and alone."""
    score = 2.0 + int(hashlib.sha256(job.document.encode()).hexdigest()[:4], 16) / 0xFFFF
    if job.is_verdict:
        assert (job.parents, job.tolerance, job.course) != ((), 0.01, None)
        score += job.repeat / 1000
    return Evaluation(scores={"bits_per_byte": score, "gradient_evenness": 0.5}, measures=(score % 1,) * 5)


def test_the_verdict_trains_from_scratch(tmp_path: Path) -> None:
    """Winner, leader and seeds are each trained over the seeds at equal compute, once; what is missing is made up for,
    and a run without it has none."""
    asked, seen = settings(verify=VerifySpec(seeds=3, budget=FlopsBudget(flops=1e8))), Quiet()
    run.start(tmp_path / "run", asked, seen, evaluate="test_search:judged")
    journal = Journal(RunDirectory(tmp_path / "run").journal_file)
    found = verdict(asked, journal)
    journal.close()
    assert found is not None
    trainings = 3 * len(found.contestants)
    began = seen.events.index(("verdict", trainings))
    assert sum(count for _, count in seen.events[began + 1 :]) == trainings
    for contestant in found.contestants:
        assert contestant.scores == pytest.approx([contestant.scores[0] + n / 1000 for n in range(3)])
        document = parse(
            next(row[4] for row in dump(tmp_path / "run")["candidates"] if row[0] == contestant.id)
        ).document
        assert abs(contestant.steps * step_flops(document) - 1e8) <= step_flops(document) / 2
    assert found.against_best.outcome == ("unknown" if found.winner == found.best_seed else "better")
    again = Quiet()
    run.resume(tmp_path / "run", again, evaluate="test_search:judged")
    assert not [event for event in again.events if event[0] == "verdict"]
    run.start(tmp_path / "none", settings(generations=1, population=1), again, evaluate="test_search:judged")
    assert not [event for event in again.events if event[0] == "verdict"]
