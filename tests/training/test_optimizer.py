"""An optimizer over a model: one rule a parameter, decay where it belongs, and state that survives a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from tiny_models import MIXERS, document, model, task
from torch import Tensor, nn

from evo.compiler.organism import Organism
from evo.dsl.index import kind_class, kinds
from evo.dsl.schedules import WsdSchedule
from evo.training.captured import DeviceStep
from evo.training.loop import Trainer
from evo.training.optimizer import Optimizer
from strangers.training import SignSpec

KINDS = list(kinds("optimizer"))
NAMES = ["embed2", "positions", "unembed", "readout", "embedder", "lm_head"]


def make(kind: str, network: Organism, clip: float | None = None) -> Optimizer:
    """The optimizer of a kind over a model."""
    return Optimizer(dict(network.named_parameters()), network.plan.weights, kind_class("optimizer", kind)(), clip)


def train(network: Organism, optimizer: Optimizer, steps: int, scale: float = 1.0) -> list[float]:
    """Losses of learning one fixed batch."""
    x_BT = torch.arange(96).reshape(4, 24)
    losses: list[float] = []
    for _ in range(steps):
        loss = network.loss(x_BT, x_BT.roll(-1, 1))
        network.zero_grad()
        loss.backward()
        optimizer.step(scale)
        losses.append(loss.item())
    return losses


def equal(one: nn.Module, two: nn.Module) -> bool:
    """Whether all parameters are, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_each_parameter_is_in_one_group(kind: str) -> None:
    """Every parameter is optimised, by one rule, and no two groups have the same."""
    network = model()
    optimizer = make(kind, network)
    held = [id(parameter) for group in optimizer.groups for parameter in group.parameters]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters())
    assert len({group.rule for group in optimizer.groups}) == len(optimizer.groups)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind: str) -> None:
    """Thirty steps on one batch reduce its loss."""
    network = model()
    losses = train(network, make(kind, network), 30, scale={"lion": 8.0}.get(kind, 1.0))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_decay_alone(kind: str) -> None:
    """With gradients of zero, one step shrinks what decays by 1 - lr * weight_decay and leaves the rest untouched."""
    network = model(MIXERS["delta"])
    optimizer, before = make(kind, network), copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    rules = kind_class("optimizer", kind)().assign(network.plan.weights)  # type: ignore[attr-defined]
    for (path, new), old in zip(network.named_parameters(), before.parameters(), strict=True):
        group = network.plan.weights[path].group
        factor = 1 - rules[path].lr * rules[path].weight_decay
        assert (factor < 1) == (group in {"matrix", "taps", "readout"})
        torch.testing.assert_close(new, old * factor, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_without_a_gradient_stays(kind: str) -> None:
    """Neither it nor its state moves, also where it would decay."""
    network = model()
    optimizer = make(kind, network)
    path = "stages.body.0.mixer.q"
    before, state = network.get_parameter(path).detach().clone(), copy.deepcopy(optimizer.states[path])
    for other, parameter in network.named_parameters():
        parameter.grad = None if other == path else torch.ones_like(parameter)
    optimizer.step(1.0)
    assert torch.equal(network.get_parameter(path), before)
    assert all(torch.equal(held, state[name]) for name, held in optimizer.states[path].items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_names_do_not_matter(kind: str, name: str) -> None:
    """From the same first weights, a stage of any name is trained to the same weights, to the last byte."""
    first = model(MIXERS["parallel"]).state_dict()
    ends = [trained(kind, first, called) for called in ("body", name)]
    assert equal(*ends)
    assert not all(torch.equal(value, ends[0].state_dict()[path]) for path, value in first.items())


def trained(kind: str, first: Mapping[str, Tensor], name: str) -> Organism:
    """A model whose stage has a name, trained from the first weights of one whose stage is called `body`."""
    stage, settings = {"name": name}, {"optimizer": {"kind": kind, "weight_decay": 0.5}}
    network = model(MIXERS["parallel"], train=settings, stage=stage)
    network.load_state_dict({path.replace("stages.body.", f"stages.{name}."): t for path, t in first.items()})
    Trainer(network, task(), document(MIXERS["parallel"], train=settings, stage=stage).train).run()
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_continues_exactly(kind: str) -> None:
    """Five steps, a copy through state dicts, and five more equal ten steps, bit for bit."""
    straight, first, second = model(), model(), model()
    train(straight, make(kind, straight), 10)
    optimizer, resumed = make(kind, first), make(kind, second)
    train(first, optimizer, 5)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, resumed, 5)
    assert equal(second, straight)


def test_a_loaded_state_is_copied() -> None:
    """Tensors that a captured step changes stay the same ones, and the saved ones are left alone."""
    network = model()
    optimizer = make("adamw", network)
    held = [tensor.data_ptr() for tensor in optimizer.tensors()]
    saved = {path: {name: t + 1 for name, t in state.items()} for path, state in optimizer.state_dict().items()}
    optimizer.load_state_dict(saved)
    assert [tensor.data_ptr() for tensor in optimizer.tensors()] == held
    train(network, optimizer, 1)
    assert all(int(state["step"]) == 1 for state in saved.values())
    assert all(int(state["step"]) == 2 for state in optimizer.states.values())


@pytest.mark.parametrize("kind", KINDS)
def test_state_of_another_optimizer_is_refused(kind: str) -> None:
    """Other names, shapes or paths of states raise, and nothing is loaded."""
    optimizer = make(kind, model())
    wide, other = make(kind, model(width=32)), make({"adamw": "lion"}.get(kind, "adamw"), model())
    for state in (wide.state_dict(), other.state_dict(), {}, {**optimizer.state_dict(), "more": {}}):
        with pytest.raises(ValueError, match="not that of this optimizer"):
            optimizer.load_state_dict(state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scale_of_zero_stops_everything(kind: str) -> None:
    """The scale reaches every group: at zero nothing moves."""
    network = model()
    before = copy.deepcopy(network)
    train(network, make(kind, network), 2, scale=0.0)
    assert equal(network, before)


def test_clipping_is_part_of_the_step() -> None:
    """Gradients of a norm above `clip` are scaled down to it; below, they are left alone."""
    network = model()
    optimizer = make("adamw", network, clip=0.01)
    train(network, optimizer, 1)
    norm = float(nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None]))
    assert norm == pytest.approx(0.01, rel=1e-3)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    before = copy.deepcopy(gradients)
    optimizer.clip = 10.0
    optimizer.step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, gradients, strict=True))


def stranger(mode: str, device: str = "cpu") -> Trainer:
    """A trainer of a tiny model whose optimizer no table knows, at a rate that is exact in float32."""
    spec = document().train.model_copy(
        update={"optimizer": SignSpec(reads=True), "schedule": WsdSchedule(warmup=0.0, decay=0.0)}
    )
    return Trainer(model().to(device), task(), spec, mode=mode)


def test_an_optimizer_of_another_package_trains() -> None:
    """Eager steps and device steps serve a rule that nothing here names, and end at one place."""
    eager, other = stranger("auto"), stranger("eager")
    source = other.task.on_device(other.device)
    assert source is not None
    step = DeviceStep(other.model, source, other.spec, other.context, other.optimizer, lambda step: 1.0, 0, 4)
    eager.run()
    for index in range(eager.steps):
        step.take(index)
    for one, two in zip(eager.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    assert all(float(state["count"]) == eager.steps for state in other.optimizer.states.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_rule_that_reads_the_device_runs_eagerly_and_says_so() -> None:
    """A rule whose host looks at the rate cannot be captured: steps are eager, with the reason."""
    trainer = stranger("auto", "cuda")
    trainer.run()
    assert trainer.step_mode == "eager"
    assert "cannot be captured" in trainer.step_reason


def test_mistakes_are_refused() -> None:
    """No parameters, a rule too few, weights of another plan, or a spec that is no optimizer's."""
    network = model()
    parameters, weights, spec = dict(network.named_parameters()), network.plan.weights, SignSpec()
    with pytest.raises(ValueError, match="without parameters"):
        Optimizer({}, {}, spec)
    with pytest.raises(ValueError, match=r"SignSpec assigns rules not one a parameter: embedding\.weight"):
        Optimizer(parameters, weights, SignSpec(forgets=True))
    with pytest.raises(ValueError, match=r"the plan's weights are not one a parameter: final_norm\.gain"):
        Optimizer(parameters, {path: w for path, w in weights.items() if path != "final_norm.gain"}, spec)
    with pytest.raises(TypeError, match="WsdSchedule is not the spec of an optimizer"):
        Optimizer(parameters, weights, WsdSchedule())
