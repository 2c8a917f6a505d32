"""`evo train` goes on from a checkpoint and from a variant's snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest
from searches import Quiet, seed_document, settings

from commands import Evo
from evo.evolution import run
from evo.training import run as training
from evo.training.checkpoint import load_checkpoint


@pytest.fixture(autouse=True)
def _short_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "HELD_OUT_TOKENS", 500)


def test_from_a_variants_snapshot(tmp_path: Path, evo: Evo) -> None:
    """Its weights are restored into --out and trained on to the step that is asked for; without --out that is said."""
    run.start(tmp_path / "run", settings(seed_document(), generations=1), Quiet())
    snapshot = tmp_path / "run" / "gen_0001" / "variant_00.safetensors"
    refused = evo("train", snapshot, "--steps", 5, "--device", "cpu")
    assert (refused.code, "folder of its own" in refused.err) == (2, True)
    found = evo("train", snapshot, "--steps", 5, "--device", "cpu", "--out", tmp_path / "on")
    assert found.code == 0
    assert "after 5 steps" in found.out
    assert load_checkpoint(tmp_path / "on" / "checkpoint.safetensors").step == 5
    assert evo("train", snapshot, "--steps", 6, "--device", "cpu", "--out", tmp_path / "on").err.startswith("EVO601")


def test_from_a_checkpoint(tmp_path: Path, evo: Evo) -> None:
    """In another folder it ends with the weights that --resume ends with; in its own it is --resume."""
    (tmp_path / "tiny.yaml").write_text(seed_document())
    made, there = tmp_path / "made", tmp_path / "there"
    assert evo("train", tmp_path / "tiny.yaml", "--device", "cpu", "--out", made).code == 0
    file = made / "checkpoint.safetensors"
    assert evo("train", made, "--steps", 4, "--device", "cpu", "--out", there).code == 0
    assert load_checkpoint(file).step == 2
    assert evo("train", file, "--steps", 4, "--device", "cpu").code == 0
    one, two = (load_checkpoint(folder / "checkpoint.safetensors") for folder in (made, there))
    assert one.step == two.step == 4
    assert all((one.weights[name] == two.weights[name]).all() for name in one.weights)
    foreign = tmp_path / "other.safetensors"
    foreign.write_bytes(b"nothing")
    assert evo("train", foreign, "--out", tmp_path / "new").err.startswith("EVO602")
