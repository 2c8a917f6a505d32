"""The text of a run is one value, found wherever the run, a variant or a child of a document lies."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from searches import Quiet, dump, seed_document, settings

from commands import Evo
from evo.base.diagnostics import DiagnosticError
from evo.evolution import run
from evo.evolution.evaluate import evaluate
from evo.evolution.rundir import RunDirectory
from evo.evolution.trial import Evaluation

OWN = {"kind": "bytes", "corpus": "text.txt"}
OPTIONS = (
    "--verify",
    "{seeds: 0}",
    "--repeats",
    1,
    "--centroids",
    "uniform",
    "--generations",
    1,
    "--population",
    2,
    "--workers",
    0,
    "--device",
    "cpu",
)


def text(seed: int) -> bytes:
    """Letters."""
    return bytes(np.random.Generator(np.random.Philox(seed)).integers(97, 123, 20_000, dtype=np.uint8))


def project(folder: Path, name: str = "seed.yaml", seed: int = 1, **train: object) -> Path:
    """A document with its text beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_bytes(text(seed))
    (folder / name).write_text(seed_document(task=OWN, **train))
    return folder / name


def scores(folder: Path) -> list[tuple[str, float]]:
    """Every bits per byte of a run."""
    found = [(row[0], row[4]) for row in dump(folder)["scores"] if row[3] == "bits_per_byte"]
    assert found
    return found


def changing(job: object) -> Evaluation:
    """An evaluation before which somebody appends to the text."""
    with (Path(job.root) / "text.txt").open("ab") as file:  # type: ignore[attr-defined]
        file.write(b"more")
    return evaluate(job)  # type: ignore[arg-type]


def removing(job: object) -> Evaluation:
    """An evaluation before which somebody removes the text."""
    (Path(job.root) / "text.txt").unlink(missing_ok=True)  # type: ignore[attr-defined]
    return evaluate(job)  # type: ignore[arg-type]


@pytest.mark.parametrize(("spoiler", "code"), [("changing", "EVO603"), ("removing", "EVO500")])
def test_a_text_that_changes_stops_the_run_and_no_candidate(tmp_path: Path, spoiler: str, code: str) -> None:
    """B01: nothing is recorded of what would have seen another text; with the old text back the run ends as ever."""
    project(tmp_path)
    own = replace(settings(seed_document(task=OWN), generations=1), root=str(tmp_path))
    run.start(tmp_path / "whole", own, Quiet())
    with pytest.raises(DiagnosticError, match=code):
        run.start(tmp_path / "run", own, Quiet(), evaluate=f"test_text:{spoiler}")
    assert dump(tmp_path / "run")["evaluations"] == []
    with pytest.raises(DiagnosticError, match=code):
        run.resume(tmp_path / "run", Quiet())
    (tmp_path / "text.txt").write_bytes(text(1))
    run.resume(tmp_path / "run", Quiet())
    assert dump(tmp_path / "run") == dump(tmp_path / "whole")


def test_the_digest_of_the_text_belongs_to_the_settings(tmp_path: Path) -> None:
    """An edited digest in run.yaml, with a text to match, is another run: EVO603."""
    project(tmp_path)
    run.start(tmp_path / "run", replace(settings(seed_document(task=OWN)), root=str(tmp_path)), Quiet())
    file = tmp_path / "run" / "run.yaml"
    before = RunDirectory(tmp_path / "run").load().task_digest
    project(tmp_path, seed=2)
    with pytest.raises(DiagnosticError, match="EVO603"):
        run.resume(tmp_path / "run", Quiet())
    own = replace(settings(seed_document(task=OWN)), root=str(tmp_path))
    file.write_text(file.read_text().replace(before, next(iter(run.corpora_of(own).values()))))
    with pytest.raises(DiagnosticError, match="EVO603"):
        run.resume(tmp_path / "run", Quiet())


@pytest.mark.slow
def test_each_seed_has_the_text_beside_it(tmp_path: Path, evo: Evo) -> None:
    """F01: two folders, two texts of one name: refused. The same text in both: found, also where only one has it by
    that name, and the scores are those of one folder."""
    one, two = project(tmp_path / "a"), project(tmp_path / "b", seed=2)
    code, _, err = evo("evolve", one, two, *OPTIONS, "--out", tmp_path / "r")
    assert (code, err[:6]) == (1, "EVO621")
    two.write_text(seed_document(task={"kind": "bytes", "corpus": "../b/other.txt"}, seed=5))
    (tmp_path / "b" / "other.txt").write_bytes(text(1))
    (tmp_path / "b" / "text.txt").unlink()
    assert evo("evolve", one, two, *OPTIONS, "--out", tmp_path / "r").code == 0
    (tmp_path / "a" / "two.yaml").write_text(seed_document(task=OWN, seed=5))
    assert evo("evolve", one, tmp_path / "a" / "two.yaml", *OPTIONS, "--out", tmp_path / "s").code == 0
    assert scores(tmp_path / "r")[:2] == scores(tmp_path / "s")[:2]


@pytest.mark.slow
def test_results_inside_the_text_change_nothing(tmp_path: Path, evo: Evo) -> None:
    """F02: with the project's folder as its text, the scores are the same wherever --out is, and resuming works."""
    cfg = project(tmp_path / "p")
    cfg.write_text(seed_document(task={"kind": "bytes", "corpus": "."}))
    for out in (tmp_path / "out", tmp_path / "p" / "results" / "x", tmp_path / "p"):
        assert evo("evolve", cfg, *OPTIONS, "--out", out).code == 0
        assert scores(out) == scores(tmp_path / "out")
        assert evo("resume", out).code == 0


def test_a_project_may_be_moved(tmp_path: Path, evo: Evo) -> None:
    """F22: renamed, with its run inside: resume and restore go on."""
    cfg = project(tmp_path / "p")
    assert evo("evolve", cfg, *OPTIONS, "--out", tmp_path / "p" / "r").code == 0
    (tmp_path / "p").rename(tmp_path / "q")
    run_folder = tmp_path / "q" / "r"
    assert evo("resume", run_folder).code == 0
    variant = run_folder / "gen_0000" / "variant_00.safetensors"
    assert evo("snapshot", "restore", variant, "--out", tmp_path / "t" / "checkpoint.safetensors").code == 0
    yaml = variant.with_suffix(".yaml")
    assert evo("train", yaml, "--out", tmp_path / "t", "--device", "cpu", "--resume", "--threads", 1).code == 0


def test_a_text_that_a_seed_learns_perfectly(tmp_path: Path, evo: Evo) -> None:
    """F18: a score of 0 has an objective, is said to be suspicious, and resumes."""
    (tmp_path / "text.txt").write_bytes(b"a" * 20_000)
    learned = {"steps": 60, "optimizer": {"kind": "adamw", "lr": 0.1}}
    (tmp_path / "seed.yaml").write_text(seed_document(task=OWN, **learned))
    outcome = evo("evolve", tmp_path / "seed.yaml", *OPTIONS, "--out", tmp_path / "r")
    assert outcome.code == 0, outcome.err
    assert "suspicious: " in outcome.out
    variants = json.loads((tmp_path / "r" / "search_report.json").read_text())["variants"]
    assert all(math.isfinite(row["objective"]) for row in variants if not row["cause"])
    assert variants[0]["bits_per_byte"] < 0.01
    assert evo("resume", tmp_path / "r").code == 0


def test_a_run_without_its_text_is_told_where_that_lies_now(tmp_path: Path, evo: Evo) -> None:
    """F22: --root says so once, and the run keeps it; another text there is refused."""
    cfg = project(tmp_path / "p")
    assert evo("evolve", cfg, *OPTIONS, "--out", tmp_path / "r").code == 0
    (tmp_path / "p").rename(tmp_path / "q")
    gone = evo("resume", tmp_path / "r").err
    assert "EVO500" in gone
    assert "by --root" in gone
    project(tmp_path / "other", seed=2)
    before = (tmp_path / "r" / "run.yaml").read_text()
    refused = evo("resume", tmp_path / "r", "--root", tmp_path / "other")
    assert (refused.code, "EVO603" in refused.err) == (1, True)
    assert (tmp_path / "r" / "run.yaml").read_text() == before
    assert evo("resume", tmp_path / "r", "--root", tmp_path / "q").code == 0
    assert evo("resume", tmp_path / "r").code == 0
    assert (tmp_path / "r" / "run.yaml").read_text() == before.replace("root: ../p", "root: ../q")


@pytest.mark.slow
def test_variants_children_and_changed_documents_find_their_text(tmp_path: Path, evo: Evo) -> None:
    """F17: what a run, `mutate --out` and `apply --out` wrote trains from where it lies, and searches on."""
    cfg = project(tmp_path / "p")
    assert evo("evolve", cfg, *OPTIONS, "--out", tmp_path / "r").code == 0
    assert evo("mutate", cfg, "--count", 1, "--out", tmp_path / "kids" / "deep").code == 0
    child = tmp_path / "kids" / "deep" / "child_000.yaml"
    patch = child.with_name("child_000.patch.yaml")
    assert evo("apply", patch, cfg, "--out", tmp_path / "c" / "x.yaml").code == 0
    variant = tmp_path / "r" / "gen_0001" / "variant_00.yaml"
    for index, file in enumerate((variant, child, tmp_path / "c" / "x.yaml")):
        result = evo("train", file, "--out", tmp_path / f"t{index}", "--device", "cpu", "--steps", 1, "--threads", 1)
        assert result.code == 0, result
    assert evo("evolve", variant, *OPTIONS, "--out", tmp_path / "again").code == 0
    shutil.copy(variant, tmp_path / "p" / "best.yaml")
    assert evo("train", tmp_path / "p" / "best.yaml", "--out", tmp_path / "t9", "--steps", 1, "--threads", 1).code == 0


def test_warnings_reach_the_console_the_report_and_the_json(tmp_path: Path, evo: Evo) -> None:
    """F10: what there is to say of the text is said on stderr, in report.html, search_report.json and --json."""
    cfg = project(tmp_path / "p")
    code, out, err = evo("evolve", cfg, *OPTIONS, "--out", tmp_path / "r", "--json")
    warning = "corpus 'text.txt' has 20,000 bytes"
    assert code == 0
    assert err.count(warning) == 1
    assert json.loads(out)["warnings"][0].startswith(warning)
    assert json.loads((tmp_path / "r" / "search_report.json").read_text())["warnings"] == json.loads(out)["warnings"]
    assert "20,000 bytes" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.slow
def test_a_snapshot_of_another_run_is_refused(tmp_path: Path, evo: Evo) -> None:
    """B04: a file that was copied into another run is EVO602, not that run's weights under its name."""
    for index in range(2):
        cfg = project(tmp_path / f"p{index}", seed=index)
        assert evo("evolve", cfg, *OPTIONS, "--out", tmp_path / f"p{index}" / "r").code == 0
    place = Path("r") / "gen_0001" / "variant_00.safetensors"
    shutil.copy(tmp_path / "p0" / place, tmp_path / "p1" / place)
    code, _, err = evo("snapshot", "restore", tmp_path / "p1" / place, "--out", tmp_path / "c.safetensors")
    assert (code, err[:6]) == (1, "EVO602")
    assert not (tmp_path / "c.safetensors").exists()
