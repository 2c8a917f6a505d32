"""Fine-tuning: an organism starts from another's weights, and its adapters alone are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import document

from commands import Evo
from evo.compiler.adapters import merged
from evo.training import run as module
from evo.training.checkpoint import FILE, load_checkpoint
from evo.training.run import TrainingRun

BASE = """\
evo: 1
organism:
  width: 16
  context: 16
  stages:
    - {name: body, mix: {kind: attention, heads: 2}, ffn: {kind: gated, ratio: 1}}
train: {steps: 2, batch: 2, seed: 1}
"""


@pytest.fixture(autouse=True)
def _short_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_OUT_TOKENS", 500)


@pytest.mark.parametrize("spec", ["{kind: lora, rank: 2}", "{kind: lora, four_bits: {}}", "{kind: svf}"])
def test_a_checkpoint_is_fine_tuned(tmp_path: Path, evo: Evo, spec: str) -> None:
    """`--from` starts where the base ended, whose weights stay to the bit, or as four bits round them; what is exported
    has adapters merged."""
    base, tuned, out = tmp_path / "base.yaml", tmp_path / "tuned.yaml", tmp_path / "out"
    base.write_text(BASE)
    tuned.write_text(f"extends: base.yaml\norganism: {{adapters: {spec}}}\n")
    assert evo("train", base, "--device", "cpu", "--out", tmp_path).code == 0
    start = tmp_path / FILE
    found = evo("train", tuned, "--from", start, "--device", "cpu", "--out", out)
    assert found.code == 0
    assert f"parameters start from {start}" in found.out
    before, after = load_checkpoint(start).weights, load_checkpoint(out / FILE)
    stay = [torch.equal(after.weights[path], tensor) for path, tensor in before.items()]
    assert all(stay) == ("four_bits" not in spec)
    assert set(after.optimizer or {}) == set(after.weights) - set(before)
    plain, weights = merged(after.document, after.weights)
    assert plain.organism == load_checkpoint(start).document.organism
    changed = {path for path, tensor in before.items() if not torch.equal(weights[path], tensor)}
    assert {path.rsplit(".", 1)[-1] for path in changed} == {"q", "k", "v", "o", "gate", "up", "down"}
    assert evo("export", out, "--to", "torch", "--out", tmp_path / "torch").code == 0


@pytest.mark.parametrize("more", [{}, {"four_bits": {"block": 32}}], ids=["lora", "four bits"])
def test_adapters_resume(tmp_path: Path, more: dict[str, Any]) -> None:
    """A fine-tuning that goes on ends with the weights of one that did not stop."""
    made = document(adapters={"kind": "lora", "rank": 2, **more}, train={"steps": 3})
    TrainingRun.open(made, tmp_path, tmp_path / "whole", "cpu").carry_out(None, 100)
    stopped = TrainingRun.open(made, tmp_path, tmp_path / "parts", "cpu")
    stopped.trainer.run(until=1)
    stopped.save()
    TrainingRun.open(made, tmp_path, tmp_path / "parts", "cpu", resume=True).carry_out(None, 100)
    whole, parts = (load_checkpoint(tmp_path / name / FILE).weights for name in ("whole", "parts"))
    assert all(torch.equal(parts[path], tensor) for path, tensor in whole.items())


def test_what_cannot_be_started_from(tmp_path: Path, evo: Evo) -> None:
    """No weight in common is said with its own code; a training that goes on takes no start."""
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "other.yaml").write_text(BASE.replace("body", "torso"))
    assert evo("train", tmp_path / "base.yaml", "--device", "cpu", "--out", tmp_path).code == 0
    refused = evo("train", tmp_path / FILE, "--from", tmp_path / FILE)
    assert (refused.code, "goes on with its own settings" in refused.err) == (2, True)
    for start, code in ((FILE, "EVO609"), ("nowhere.safetensors", "EVO602")):
        odd = evo("train", tmp_path / "other.yaml", "--from", tmp_path / start, "--out", tmp_path / "new")
        assert odd.err.startswith(code)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("spec", [{"kind": "lora"}, {"kind": "lora", "four_bits": {}}, {"kind": "svf"}])
def test_captured_steps_are_eager_steps(spec: dict[str, Any], tmp_path: Path) -> None:
    """On a GPU, steps of adapters are captured, lose what eager ones lose, and leave the rest as it was."""
    made = document(adapters=spec, train={"steps": 6})
    losses = []
    for mode in ("eager", "captured"):
        run = TrainingRun.open(made, tmp_path, tmp_path / mode, "cuda")
        before = {path: parameter.detach().clone() for path, parameter in run.trainer.model.named_parameters()}
        run.trainer.mode, run.trainer.captured = mode, None
        losses.append(run.trainer.run())
        assert run.trainer.step_mode == mode
        moved = {path for path, p in run.trainer.model.named_parameters() if not torch.equal(p, before[path])}
        assert moved == set(run.trainer.model.plan.trained)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
