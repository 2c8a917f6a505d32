"""Losses that blocks add to the task's: minimised with it, reported apart from it, however steps are carried out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import document, model, task

from commands import Evo
from evo.dsl.index import KINDS
from evo.training.captured import DeviceStep
from evo.training.loop import DivergedError, Progress, Trainer

FFN = {"kind": "loaded"}
STEPS = 4


@pytest.fixture(autouse=True)
def _loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS["ffn"], "loaded", "loaded:LoadedSpec")


def trainer(kind: str = "loaded", mode: str = "eager", device: str = "cpu", **train: Any) -> Trainer:
    """A trainer of a fresh tiny model with feed-forwards of that kind."""
    settings: dict[str, Any] = {"stage": {"ffn": {"kind": kind}}, "train": {"steps": STEPS, **train}}
    return Trainer(model(**settings).to(device), task(), document(**settings).train, mode=mode)


def test_they_are_minimised_and_reported_apart() -> None:
    """The loss reported is the task's alone; the auxiliary one stands beside it, and moves the weights."""
    loaded, plain = trainer(), trainer("dense")
    seen: list[Progress] = []
    assert loaded.model.plan.losses == ("size",)
    assert plain.model.plan.losses == ()
    first = loaded.losses(0)
    loaded.run(on_step=seen.append)
    plain_loss = plain.run(1)
    assert seen[0].loss == plain_loss == first.task.item()
    assert seen[0].auxiliary == {"size": first.auxiliary["size"].item()}
    assert seen[0].auxiliary["size"] > 0
    assert first.total.item() == pytest.approx(seen[0].loss + seen[0].auxiliary["size"])
    loaded_again = trainer()
    loaded_again.run(1)
    pairs = zip(loaded_again.model.parameters(), plain.model.parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in pairs)


def test_device_steps_note_them() -> None:
    """Steps as one device body keep every loss on the device, in the order of the plan."""
    plain, other = trainer(), trainer()
    source = other.task.on_device(other.device)
    scale = lambda step: other.spec.schedule.scale(step, STEPS)  # noqa: E731
    step = DeviceStep(other.model, source, other.spec, other.context, other.optimizer, scale, block=3)
    seen: list[Progress] = []
    plain.run(on_step=seen.append)
    for index, progress in enumerate(seen):
        expected = [progress.loss, progress.auxiliary["size"]]
        assert step.take(index).tolist() == pytest.approx(expected, rel=1e-4)


def test_one_that_is_no_number_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run says which loss broke."""
    monkeypatch.setattr("loaded.SHARE", float("nan"))
    with pytest.raises(DivergedError, match="the loss 'size' became nan at step 1 of 4"):
        trainer().run()


def test_evo_train_tells_them(tmp_path: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of progress name each auxiliary loss after the task's; JSON has them under `auxiliary`."""
    monkeypatch.setattr("evo.training.run.HELD_OUT_TOKENS", 500)
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text(
        "evo: 1\norganism:\n  width: 16\n  context: 16\n  stages:\n"
        "    - {name: body, mix: {kind: attention, heads: 2}, ffn: {kind: loaded}}\ntrain: {steps: 2, batch: 2}\n"
    )
    code, out, _ = evo("train", cfg, "--out", tmp_path / "one", "--device", "cpu")
    (line,) = [line for line in out.splitlines() if line.startswith("step 2/2")]
    assert code == 0
    assert "  size 0." in line
    code, out, _ = evo("train", cfg, "--out", tmp_path / "two", "--device", "cpu", "--json")
    result = json.loads(out)
    assert list(result["auxiliary"]) == ["size"]
    assert line.split("loss ")[1].startswith(f"{result['train_loss']:.3f}")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_steps_have_them() -> None:
    """A captured run ends at the losses of an eager one."""
    ends: list[Progress] = []
    for mode in ("eager", "captured"):
        run = trainer(mode=mode, device="cuda", precision="fp32")
        run.run(on_step=ends.append)
        assert run.step_mode == mode
    assert ends[0].loss == pytest.approx(ends[1].loss, rel=1e-3)
    assert ends[0].auxiliary == pytest.approx(ends[1].auxiliary, rel=1e-2)
