"""A task that nothing else knows: its vocabulary, ignored targets and score serve checks, training and sampling."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.compiler.check import check
from evo.compiler.organism import Organism
from evo.dsl.canonical import to_data
from evo.dsl.document import from_data
from evo.tasks.base import Batch, open_task
from evo.training.behaviour import behaviour
from evo.training.captured import DeviceStep
from evo.training.generate import generate
from evo.training.loop import Trainer
from evo.training.run import TrainingRun
from evo.training.sample import held_out_sample, sample_bits
from evo.training.score import held_out_scores
from strangers.copying import CONTEXT, CopySource, CopySpec, CopyTask, document, model

pytestmark = pytest.mark.usefixtures("strangers")


@pytest.fixture(autouse=True)
def _short_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evo.training.run.HELD_OUT_TOKENS", 500)


def stream() -> Stream:
    """A stream of batches."""
    return Stream(0)


def gradients(network: Organism, batch: Batch) -> list[Tensor]:
    """The loss and its gradients."""
    loss = network.loss(batch.inputs_BT, batch.targets_BT, batch.weights_BT)
    return [loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))]


def test_it_says_what_it_asks_of_an_organism() -> None:
    """Its documents come back from canonical data; too small a vocabulary and a mixer that sees ahead are faults."""
    data = to_data(document())
    assert from_data(data).document == document()
    data["organism"]["vocab"] = 8
    assert [d.code for d in check(from_data(data))] == ["EVO341"]
    data["organism"]["vocab"] = 16
    data["organism"]["stages"][0]["mix"]["causal"] = False
    assert [d.code for d in check(from_data(data))] == ["EVO343"]


def test_it_trains_and_is_scored_by_its_own_score(tmp_path: Path) -> None:
    """Two steps of `evo train` end at an accuracy, in a checkpoint that goes on; JSON has scores by their names."""
    result = TrainingRun.open(document(), tmp_path, tmp_path / "out", "cpu").carry_out(None, 1)
    assert list(result.scores) == ["accuracy", "targets"]
    assert 0 <= result.scores["accuracy"] < 0.5
    assert result.primary.cost(0.9) < result.primary.cost(0.2)
    assert result.to_data()["accuracy"] == result.scores["accuracy"]
    again = TrainingRun.open(document(), tmp_path, tmp_path / "out", "cpu", resume=True, steps=3).carry_out(None, 1)
    assert again.step == 3


def test_ignored_targets_change_nothing() -> None:
    """A target of weight 0 has no say in the loss or in any gradient; one that counts has."""
    network, batch = model(document()), CopyTask(CopySpec(), None).batch(0, 4, CONTEXT, stream())
    ignored, counted = batch.targets_BT.clone(), batch.targets_BT.clone()
    ignored[:, 1], counted[:, -1] = 5, 5
    others = (batch, replace(batch, targets_BT=ignored), replace(batch, targets_BT=counted))
    found = [gradients(network, other) for other in others]
    assert all(torch.equal(one, two) for one, two in zip(found[0], found[1], strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(found[0], found[2], strict=True))


def test_equal_weights_are_no_weights() -> None:
    """The loss is a mean by weight."""
    network, batch = model(document()), CopyTask(CopySpec(), None).batch(0, 4, CONTEXT, stream())
    weights = (None, torch.full(batch.targets_BT.shape, 0.3))
    plain, weighted = (gradients(network, replace(batch, weights_BT=found)) for found in weights)
    torch.testing.assert_close(weighted, plain, rtol=1e-4, atol=1e-6)


def test_the_device_takes_the_same_steps() -> None:
    """Steps as one device body read its batches, weights included, and lose what the plain loop loses."""
    made = document(steps=5, precision="fp32")
    task = open_task(made.train.task, Path())
    plain, other = (Trainer(model(made), task, made.train, mode="eager") for _ in range(2))
    scale = lambda step: made.train.schedule.scale(step, 5)  # noqa: E731
    step = DeviceStep(other.model, CopySource(CopyTask(CopySpec(), None)), made.train, CONTEXT, other.optimizer, scale)
    for index in range(5):
        assert float(step.take(index)) == pytest.approx(plain.run(index + 1), rel=1e-5)


def test_it_learns() -> None:
    """Its accuracy rises above that of a guess, and its bits fall."""
    made = document(steps=150, batch=16, optimizer={"kind": "adamw", "lr": 1e-2})
    task = open_task(made.train.task, Path())
    trainer = Trainer(model(made), task, made.train)
    sample = held_out_sample(task, CONTEXT, 500, cover=500, parts=1)
    (before,) = sample_bits(trainer.model, sample)
    trainer.run()
    assert held_out_scores(trainer.model, task, CONTEXT, tokens=500)["accuracy"] > 2 * task.primary.uniform
    (after,) = sample_bits(trainer.model, sample)
    assert after < before
    assert behaviour(trainer.model, task, CONTEXT, 0).gradient_evenness > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_steps_are_eager_steps() -> None:
    """With a source on the device its steps are captured; without one they are eager, and it is said why."""
    made = document(steps=8, precision="fp32")
    task, modes = open_task(made.train.task, Path()), ("eager", "captured")
    runs = [Trainer(model(made).cuda(), task, made.train, mode=mode) for mode in modes]
    losses = [run.run() for run in runs]
    assert [run.step_mode for run in runs] == list(modes)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    bound = CopyTask(CopySpec(), None)
    bound.on_device = lambda device: None  # type: ignore[method-assign]
    host = Trainer(model(made).cuda(), bound, made.train)
    host.run()
    assert (host.step_mode, host.step_reason) == ("eager", "the batches of copies are not made on the device")


def test_a_leak_is_found_before_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What its batches hide is probed as for any other task."""
    data = to_data(document())
    data["organism"]["stages"][0]["mix"]["causal"] = False
    with pytest.raises(DiagnosticError, match="EVO520"):
        TrainingRun.open(from_data(data).document, tmp_path, tmp_path / "out", "cpu")
    monkeypatch.setattr(CopySpec, "needs_causal", False)
    assert TrainingRun.open(from_data(data).document, tmp_path, tmp_path / "out", "cpu").trainer.step == 0


def test_it_is_sampled_in_its_own_letters() -> None:
    """Sampling speaks the task's tokens, from its start where the prompt holds none."""
    made = document()
    task = open_task(made.train.task, Path())
    sampled = list(generate(model(made), task, b"", 9))
    assert sampled == list(generate(model(made), task, b"a", 9))
    assert task.encode(task.decode(sampled)) == sampled
    assert max(sampled) < 16
