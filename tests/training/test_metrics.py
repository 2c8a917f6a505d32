"""`metrics.jsonl`: every training leaves one, and a run that goes on has each step once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands import Evo
from evo.base.files import held
from evo.training import run
from evo.training.loop import Progress
from evo.training.metrics import MOST_LINES, Metrics
from evo.training.watch import Watch

CFG = """\
evo: 1
organism: {width: 16, context: 16, stages: [{name: body, mix: {kind: attention, heads: 2}}]}
train: {steps: 6, batch: 2}
"""


@pytest.fixture(autouse=True)
def _short_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HELD_OUT_TOKENS", 500)
    monkeypatch.setattr(run, "GLANCE_TOKENS", 500)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The lines of a folder's file."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_training_leaves_its_metrics(tmp_path: Path, evo: Evo) -> None:
    """Each step has loss, rate, gradient norm and speed; held-out scores come at each save and at the end."""
    (tmp_path / "tiny.yaml").write_text(CFG)
    assert (
        evo("train", tmp_path / "tiny.yaml", "--out", tmp_path / "out", "--device", "cpu", "--save-every", 3).code == 0
    )
    found = rows(tmp_path / "out")
    steps = [row for row in found if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    assert all(row["gradient_norm"] > 0 and 0 <= row["rate"] <= 1 and row["tokens_per_second"] > 0 for row in steps)
    assert [row["tokens"] for row in steps] == [32 * step for step in range(1, 7)]
    scores = [(row["step"], list(row["held_out"])) for row in found if "held_out" in row]
    assert scores == [(3, ["bits_per_byte"]), (6, ["bits_per_byte"])]


def test_a_file_that_training_did_not_write_stays(tmp_path: Path, evo: Evo) -> None:
    """Training is refused before its first step; bytes that are no text are dropped with the line that holds them."""
    (tmp_path / "tiny.yaml").write_text(CFG)
    file = tmp_path / "metrics.jsonl"
    file.write_text("mine\n")
    told = evo("train", tmp_path / "tiny.yaml", "--out", tmp_path, "--device", "cpu")
    assert (told.code, "EVO601" in told.err, file.read_text()) == (1, True, "mine\n")
    file.write_bytes(b'{"step": 1}\n{"step": \xff}\n{"step": 2}\n')
    Metrics(file, 10, 32).begin(2)
    assert rows(tmp_path) == [{"step": 1}, {"step": 2}]


def test_two_trainings_do_not_share_a_folder(tmp_path: Path, evo: Evo) -> None:
    """While one writes there another one is refused, and leaves no file; afterwards it may."""
    pytest.importorskip("fcntl")
    (tmp_path / "tiny.yaml").write_text(CFG)
    command = ("train", tmp_path / "tiny.yaml", "--out", tmp_path / "out", "--device", "cpu")
    with held(tmp_path / "out"):
        told = evo(*command)
        assert (told.code, told.err.split()[0]) == (1, "EVO604")
        assert list((tmp_path / "out").iterdir()) == []
    assert evo(*command).code == 0


def test_a_run_that_goes_on_has_each_step_once(tmp_path: Path) -> None:
    """Lines after the checkpoint's step, and a line that was cut, are written anew; a new run starts with none."""
    metrics = Metrics(tmp_path / "metrics.jsonl", 10, 32)
    metrics.begin(0)
    for step in range(1, 6):
        metrics.note(Progress(step, 10, 1.0, 0, 0.0))
    with metrics.file.open("a") as file:
        file.write('{"step": 6, "lo')
    metrics.begin(3)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    assert rows(tmp_path)[0]["rate"] is None
    metrics.begin(0)
    assert rows(tmp_path) == []


def test_a_run_that_was_killed_leaves_what_a_whole_one_does(
    tmp_path: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but its speed: no score is lost or told twice, and tokens are those of the whole run."""
    (tmp_path / "tiny.yaml").write_text(CFG)
    command = ("train", tmp_path / "tiny.yaml", "--device", "cpu", "--save-every", 2, "--out")
    assert evo(*command, tmp_path / "whole").code == 0
    score = Watch.score

    def killed(self: Watch, scores: dict[str, float]) -> None:
        if self.trainer.step == 4:
            raise ZeroDivisionError
        score(self, scores)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "score", killed)
        assert evo(*command, tmp_path / "out").code == 70
    for _ in range(2):  # the second time there is nothing left to train
        assert evo(*command, tmp_path / "out", "--resume").code == 0
        assert measured(tmp_path / "out") == measured(tmp_path / "whole")


def measured(folder: Path) -> list[dict[str, Any]]:
    """The lines of a folder's file without speeds, which no two runs have alike."""
    return [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows(folder)]


def test_long_runs_leave_so_many_lines(tmp_path: Path) -> None:
    """A hundred thousand steps leave about two thousand lines, the last one among them."""
    metrics = Metrics(tmp_path / "metrics.jsonl", 100_001, 32)
    metrics.begin(0)
    for step in range(1, 100_002):
        metrics.note(Progress(step, 100_001, 1.0, 0, 0.0))
    assert len(rows(tmp_path)) <= MOST_LINES + 1
    assert rows(tmp_path)[-1]["step"] == 100_001
