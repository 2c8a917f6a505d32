"""Run directories as people and programs read them: `evo runs`, `elites`, `compare`, `prune`, and `evo.open_run`."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest
import torch

import evo as package
from commands import Evo
from evo.base.rundirs import runs_in
from evo.dsl.document import load
from evo.evolution.rundir import RunDirectory
from evo.report.runs import best, read_report


def test_runs_lists_the_runs_of_a_folder(
    whole: Path, evo: Evo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row a run with its state; folders inside a run are none; an empty folder is a warning and no error."""
    assert runs_in(whole.parent) == runs_in(whole) == [whole]
    (found,) = evo("runs", whole.parent, "--json").json["runs"]
    assert (found["run"], found["is_finished"], found["generation"]) == (str(whole), True, 2)
    shown = evo("runs", whole.parent).out
    assert "finished" in shown
    assert shown.rstrip().endswith(f"{found['best']}  {found['best_score']:.4f} ({found['best_scored']})")
    outcome = evo("runs", tmp_path)
    assert (outcome.code, outcome.out, "EVO600 warning" in outcome.err) == (0, "", True)
    assert (evo("runs", tmp_path / "nowhere").code, "EVO600" in evo("runs", tmp_path / "nowhere").err) == (1, True)
    monkeypatch.chdir(tmp_path)
    outcome = evo("runs")  # before the first search there is no folder `results`
    assert (outcome.code, "`evo evolve CFG` makes one in results" in outcome.err) == (0, True)


def test_elites_are_those_of_the_report(whole: Path, evo: Evo) -> None:
    """As a table, as CSV with every number, and as JSON; --all has failed ones too."""
    report = read_report(whole)
    rows = list(csv.DictReader(io.StringIO(evo("elites", whole, "--csv").out)))
    assert {row["id"] for row in rows} == set(report.elites.values())
    objectives = [float(row["objective"]) for row in rows]
    assert objectives == sorted(objectives, reverse=True)
    assert {"bits_per_byte", "term_task", "attention_span", "parameters", "file"} <= set(rows[0])
    found = evo("elites", whole, "--all", "--json").json["elites"]
    assert [row["id"] for row in found] == [variant.id for variant in report.variants]
    assert len(evo("elites", whole).out.splitlines()) == 1 + len(rows)


def test_compare_shows_patch_costs_scores_and_learning(whole: Path, evo: Evo, tmp_path: Path) -> None:
    """Variants by their files, a run as its best, and a document that nobody scored."""
    report = read_report(whole)
    top = best(report)
    seed = whole / report.variants[0].file
    plain = tmp_path / "plain.yaml"
    plain.write_text(load(seed).text)
    data = evo("compare", seed, whole, plain, "--json").json
    assert data["columns"] == ["whole:0000/00", f"whole:{top.id}", str(plain)]
    assert data["numbers"]["scores"]["bits_per_byte"] == [report.variants[0].score, top.score, None]
    assert data["numbers"]["costs"]["parameters"][0] == data["numbers"]["costs"]["parameters"][2]
    assert data["patches"][str(plain)] == ""
    assert "task x 0.7" in data["numbers"]["objective"]
    shown = evo("compare", seed, whole)
    assert shown.code == 0
    assert shown.out.startswith(f"whole:0000/00 -> whole:{top.id}\n")
    assert evo("compare", seed).code == 2
    lost = seed.with_name("variant_99.yaml")
    shutil.copy(seed, lost)
    outcome = evo("compare", seed, lost)
    lost.unlink()
    assert (outcome.code, "EVO608" in outcome.err) == (1, True)


def test_the_python_door_to_a_run(whole: Path) -> None:
    """Records, best by any number, lineage to the seed, the document and the model of a variant."""
    run = package.open_run(whole)
    records = run.variants.to_records()
    assert [record["id"] for record in records] == [variant.id for variant in run]
    assert run.best().id == run.report.best
    least = min(record["parameters"] for record in records if record["objective"] is not None)
    assert run.best(by="parameters").parameters == least
    assert run.best(by="bits_per_byte").id == run.report.best_scored
    with pytest.raises(ValueError, match="did you mean 'parameters'"):
        run.best(by="parametres")
    line = run.lineage(run.best().id)
    assert (line[0].parents, line[-1].id) == ((), run.best().id)
    assert len(line[:1]) == 1
    assert 0 < run.archive.coverage <= 1
    assert {variant.id for variant in run.archive.elites.values()} == {variant.id for variant in run.elites}
    model = run.model(run.best().id)
    assert model.plan.parameters == run.best().parameters == package.plan(run.document(run.best().id)).parameters
    again = dict(package.open_run(whole).model(run.best().id).named_parameters())
    assert all(torch.equal(value, again[name]) for name, value in model.named_parameters())
    assert "3 generations" in repr(run)
    assert repr(run.lineage("0000/00")) == "Variants(0000/00)"
    assert "organism" not in repr(run.best())
    with pytest.raises(package.DiagnosticError, match="EVO600"):
        package.open_run(whole.parent)


def test_variants_go_to_pandas(whole: Path) -> None:
    """One row a variant, numbers as numbers."""
    pytest.importorskip("pandas")
    run = package.open_run(whole)
    frame = run.elites.to_pandas()
    assert list(frame["id"]) == [variant.id for variant in run.elites]
    assert frame["objective"].dtype == "float64"
    assert run.variants[:0].to_pandas().empty


def test_prune_keeps_elites_and_their_lines_and_loses_nothing(whole: Path, evo: Evo, tmp_path: Path) -> None:
    """A dry run removes nothing; `evo resume` writes the same bytes again; a run that goes on is left alone."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    before = {path: path.read_bytes() for path in folder.rglob("gen_*/*")}
    would = evo("prune", folder, "--dry-run", "--json").json
    assert {path: path.read_bytes() for path in folder.rglob("gen_*/*")} == before
    gone = evo("prune", folder, "--json").json
    assert (gone["files"], gone["removed"], would["removed"]) == (would["files"], True, False)
    report = read_report(folder)
    kept = {path for path in before if path.exists()}
    assert {folder / report.by_id[id].file for id in report.elites.values()} <= kept
    assert len(kept) < len(before)
    evo("resume", folder, "--json")
    assert {path: path.read_bytes() for path in folder.rglob("gen_*/*")} == before
    with RunDirectory(folder).held():
        assert "EVO604" in evo("prune", folder).err
