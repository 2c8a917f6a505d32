"""Steps that never wait for the host: the plain loop's batches, its numbers, its checkpoints; captured on a GPU."""

from typing import Any

import pytest
import torch
from tiny_models import MIXERS, document, model, task, text

from evo.compiler.organism import Losses
from evo.data.batches import training_batch
from evo.dsl.schedules import Course
from evo.training.behaviour import behaviour
from evo.training.captured import DeviceStep
from evo.training.checkpoint import restore_optimizer
from evo.training.half_weights import HalfWeights
from evo.training.loop import DivergedError, Trainer
from evo.training.setup import LeakError, make_trainer, require_causal, verified_scores

OPTIMIZERS = ("adamw", "muon", "lion")
STEPS = 20
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """A copy of the weights, by path."""
    return {path: parameter.detach().cpu().clone() for path, parameter in trainer.model.named_parameters()}


def trainer(mode: str = "auto", device: str = "cpu", mix: Any = None, stage: Any = None, **train: Any) -> Trainer:
    """A trainer of a fresh tiny model for twenty steps."""
    made = document(mix, train={"steps": STEPS, **train}, stage=stage)
    network = model(mix, train={"steps": STEPS, **train}, stage=stage).to(device)
    return Trainer(network, task(), made.train, mode=mode)


def device_step(plain: Trainer, block: int = 16) -> DeviceStep:
    """The steps of a trainer as one device body."""
    scale = lambda step: plain.spec.schedule.scale(step, plain.steps)  # noqa: E731
    source = plain.task.on_device(plain.device)
    assert source is not None
    return DeviceStep(plain.model, source, plain.spec, plain.context, plain.optimizer, scale, plain.offset, block)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mix", MIXERS.values(), ids=MIXERS)
def test_the_same_seed_gives_the_same_bytes(mix: Any) -> None:
    """Also on contexts so long that the vendor's attention, whose gradients do not repeat, would be the faster one."""
    long: dict[str, Any] = {"context": 640, "width": 64}
    made = document(mix, train={"steps": STEPS}, **long)
    runs = []
    for _ in range(2):
        network = model(mix, train={"steps": STEPS}, **long).cuda()
        run = Trainer(network, task(), made.train)
        run.run()
        assert run.step_mode == "captured"
        runs.append((weights(run), behaviour(network, task(), 640, 0)))
    assert all(torch.equal(one, two) for one, two in zip(*(found.values() for found, _ in runs), strict=True))
    assert runs[0][1] == runs[1][1]


def distance(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """The norm of the difference relative to the norm."""
    differences = torch.cat([(one[path] - two[path]).flatten() for path in one])
    return float(differences.norm() / torch.cat([value.flatten() for value in one.values()]).norm())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_body_takes_the_plain_loops_steps(kind: str) -> None:
    """Without a host in between, every optimizer ends at the plain loop's weights and losses, up to rounding."""
    plain, other = (trainer("eager", optimizer={"kind": kind}) for _ in range(2))
    plain.course = other.course = Course.of(8)
    step = device_step(other, block=3)
    for index in range(8):
        loss = plain.run(index + 1)
        assert float(step.take(index)) == pytest.approx(loss, rel=1e-5 if kind != "muon" else 1e-3)
    assert distance(weights(plain), weights(other)) < (1e-5 if kind != "muon" else 3e-3)


def test_the_text_is_gathered_on_the_device() -> None:
    """The windows of a block's steps are byte for byte those of `training_batch`, offset included."""
    plain = trainer("eager")
    plain.offset = 5
    step = device_step(plain, block=4)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    losses = plain.model.losses

    def noted(inputs: torch.Tensor, targets: torch.Tensor, *rest: Any) -> Any:
        seen.append((inputs, targets))
        return losses(inputs, targets, *rest)

    plain.model.losses = noted  # type: ignore[method-assign]
    for index in (0, 1, 2, 3, 4, 9, 2):
        step.take(index)
        inputs, targets = training_batch(text(), 5 + index, plain.spec.batch, plain.context, plain.stream)
        assert torch.equal(seen[-1][0], torch.from_numpy(inputs))
        assert torch.equal(seen[-1][1], torch.from_numpy(targets))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_passes_between_both_ways(kind: str) -> None:
    """What the optimizer saves after device steps goes on in the plain loop, and the other way round."""
    whole = trainer("eager", optimizer={"kind": kind})
    whole.run()
    halves = trainer("eager", optimizer={"kind": kind})
    halves.run(7)
    step = device_step(halves)
    for index in range(7, 13):
        step.take(index)
    assert step.is_current()
    saved = halves.optimizer.state_dict()
    restore_optimizer(halves.optimizer, saved)
    halves.step = 13
    halves.run()
    assert distance(weights(whole), weights(halves)) < (1e-5 if kind != "muon" else 5e-3)


def test_state_that_was_replaced_is_noticed() -> None:
    """Steps on tensors that the optimizer no longer holds are not current; a restored state lies in the same ones."""
    plain = trainer("eager")
    step = device_step(plain)
    step.take(0)
    assert step.is_current()
    restore_optimizer(plain.optimizer, plain.optimizer.state_dict())
    assert step.is_current()
    plain.optimizer.states["embedding.weight"]["exp_avg"] = torch.zeros(1)
    assert not step.is_current()


def test_a_cpu_says_why_it_captures_nothing() -> None:
    """Without CUDA the loop is the plain one and says why; asking for captured steps raises."""
    plain = trainer()
    plain.run(1)
    assert (plain.step_mode, plain.step_reason) == ("eager", "CUDA graphs need a CUDA device, found cpu")
    with pytest.raises(RuntimeError, match="need a CUDA device"):
        trainer("captured").run(1)
    with pytest.raises(ValueError, match="unknown mode 'graph'; known: auto, captured, eager"):
        trainer("graph")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
class TestOnGpu:
    """Captured steps on a CUDA device."""

    pytestmark = on_gpu

    def test_captured_is_eager(self, kind: str, precision: str) -> None:
        """Twenty captured steps end where twenty eager ones do, within the dtype's rounding."""
        eager, captured = (
            trainer(mode, "cuda", optimizer={"kind": kind}, precision=precision) for mode in ("eager", "captured")
        )
        start = weights(eager)
        losses = eager.run(), captured.run()
        assert captured.step_mode == "captured"
        assert losses[0] == pytest.approx(losses[1], rel=1e-3 if precision == "fp32" and kind != "muon" else 3e-2)
        moved = distance(start, weights(eager))
        bound = 1e-3 if precision == "fp32" and kind == "adamw" else 0.2
        assert distance(weights(eager), weights(captured)) < bound * moved

    def test_the_same_bytes_again_and_after_a_stop(self, kind: str, precision: str) -> None:
        """Two runs give the same bytes, and so does one in three parts whose optimizer was saved and restored."""
        one, two, parts = (trainer("captured", "cuda", optimizer={"kind": kind}, precision=precision) for _ in range(3))
        one.run()
        two.run()
        parts.run(3)
        parts.run(11)
        restore_optimizer(parts.optimizer, parts.optimizer.state_dict())
        parts.run()
        for other in (two, parts):
            assert all(torch.equal(value, weights(other)[path]) for path, value in weights(one).items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mix", MIXERS)
@pytest.mark.parametrize("place", ["pre", "post", "sandwich"])
def test_every_mixer_is_captured(mix: str, place: str) -> None:
    """Every kind of mixer, with a norm anywhere, trains in captured steps to the loss of eager ones."""
    stage = {"norm": {"kind": "rms", "place": place}}
    eager, captured = (trainer(mode, "cuda", MIXERS[mix], stage, precision="fp32") for mode in ("eager", "captured"))
    assert eager.run() == pytest.approx(captured.run(), rel=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mix", MIXERS.values(), ids=MIXERS)
def test_the_probe_of_captured_steps_accuses_nobody_and_changes_nothing(mix: Any) -> None:
    """Honest models pass with the copies that captured steps read, and go on to the same weights as without a probe."""
    made = document(mix, train={"steps": STEPS})
    plain, probed = trainer("captured", "cuda", mix), trainer("captured", "cuda", mix)
    verified_scores(probed, made, task(), 2000)
    plain.run()
    require_causal(probed, made)
    assert isinstance(probed.flow().project, HalfWeights)
    probed.run()
    assert distance(weights(plain), weights(probed)) == 0.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_leak_in_the_copies_of_captured_steps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What training runs is what is probed: a leak that only those copies have stops the candidate."""
    honest = HalfWeights.__call__

    def leaking(self: HalfWeights, x: torch.Tensor, *weights: Any) -> torch.Tensor:
        return honest(self, x + x.roll(-1, 1) if x.ndim == 3 else x, *weights)

    monkeypatch.setattr(HalfWeights, "__call__", leaking)
    with pytest.raises(LeakError, match="depend on later inputs"):
        make_trainer(document(), task(), "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_cannot_be_captured_runs_eagerly_and_says_so() -> None:
    """A forward that looks at the device falls back, with the reason; a captured run that diverges still raises."""
    plain, watched = trainer("eager", "cuda"), trainer("auto", "cuda")
    losses = watched.model.losses

    def looking(*batch: Any, **more: Any) -> Losses:
        assert float(batch[0].sum()) > 0
        return losses(*batch, **more)

    watched.model.losses = looking  # type: ignore[method-assign]
    plain.run()
    watched.run()
    assert watched.step_mode == "eager"
    assert "cannot be captured" in watched.step_reason
    assert distance(weights(plain), weights(watched)) < 1e-3
    broken = trainer("captured", "cuda")
    with torch.no_grad():
        broken.model.get_parameter("embedding.weight").fill_(float("nan"))
    with pytest.raises(DivergedError, match="the loss became nan at step 16"):
        broken.run()
