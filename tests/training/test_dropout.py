"""Dropout and the z-loss: what is dropped follows from seed and step, and nothing is where models are scored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import document, model, task
from torch import Tensor

from evo.blocks.dropout import Dropout
from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.training.captured import DeviceStep
from evo.training.device_block import step_seed
from evo.training.loop import Trainer
from evo.training.setup import require_causal

ALL = {"attention": 0.2, "residual": 0.1, "embedding": 0.3, "block": 0.2}
STEPS = 6


def trainer(steps: int = STEPS, **train: Any) -> Trainer:
    """A trainer of a fresh tiny model."""
    made = document(train={"steps": steps, **train})
    return Trainer(model(train={"steps": steps, **train}), task(), made.train)


def dropping(rates: dict[str, float], seed: int = 5) -> Dropout:
    """Dropout of a pass."""
    return Dropout(rates, torch.tensor([seed]))


def weights(run: Trainer) -> list[Tensor]:
    """All of them."""
    return [parameter.detach().clone() for parameter in run.model.parameters()]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_as_many_values_are_dropped_as_asked_for(rate: float) -> None:
    """A share `rate` is 0, in rows and columns alike, and what is left is larger by as much; draws are uncorrelated."""
    drop = dropping({"residual": rate})
    first, second = (drop(torch.ones(300, 300), "residual") for _ in range(2))
    for dropped in (first, second):
        assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])
        deviation = (rate * (1 - rate) / 90_000) ** 0.5
        assert abs(float((dropped == 0).float().mean()) - rate) < 4 * deviation
        for axis in (0, 1):
            assert float(((dropped == 0).float().mean(axis) - rate).abs().max()) < 5 * deviation * 300**0.5
    both = torch.corrcoef(torch.stack((first.flatten(), second.flatten(), first.roll(1, 1).flatten())))
    assert float((both - torch.eye(3)).abs().max()) < 0.02


def test_whole_blocks_are_dropped_by_row() -> None:
    """A row of the batch loses all that a block adds, or has more of it by 1 / (1 - rate) (1603.09382)."""
    drop = dropping({"block": 0.25})
    factors = drop.rows(torch.ones(400, 3, 7), "block")
    assert factors.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (factors == factors[:, :1, :1]).all()
    assert abs(float((factors == 0).float().mean()) - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5


def test_nothing_is_dropped_where_no_rate_says_so() -> None:
    """A place without a rate costs nothing and shifts no other draw."""
    x = torch.ones(4, 4)
    one, other = dropping({"residual": 0.5}), dropping({"residual": 0.5, "embedding": 0.0})
    assert other(x, "embedding") is x
    assert torch.equal(one(x, "residual"), other(x, "residual"))


@pytest.mark.parametrize("place", ALL)
def test_each_place_is_dropped(place: str) -> None:
    """A rate changes the loss; in the mean over seeds it does not much."""
    tiny, batch = model(), task().batch(0, 2, 16, trainer().stream)
    plain = tiny.loss(batch.inputs_BT, batch.targets_BT).detach()
    found = []
    for seed in range(8):
        flow = Flow(dropout=dropping({place: 0.3}, seed))
        found.append(tiny.losses(batch.inputs_BT, batch.targets_BT, flow=flow).total.detach())
    assert len({float(loss) for loss in found}) == 8
    assert abs(torch.stack(found).mean() - plain) < 0.1


def test_the_plain_loop_and_the_device_body_drop_the_same() -> None:
    """Steps on the device, in blocks of any size, are those of the loop."""
    plain, other = trainer(dropout=ALL), trainer(dropout=ALL)
    plain.run()
    source = other.task.on_device(other.device)
    assert source is not None
    scale = lambda step: other.spec.schedule.scale(step, STEPS)  # noqa: E731
    body = DeviceStep(other.model, source, other.spec, other.context, other.optimizer, scale, 0, 4)
    for step in range(STEPS):
        body.take(step)
    for one, two in zip(weights(plain), weights(other), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    without = trainer()
    without.run()
    assert any(
        not torch.allclose(one, two, atol=1e-4) for one, two in zip(weights(plain), weights(without), strict=True)
    )


def test_training_that_was_interrupted_drops_what_it_would_have() -> None:
    """In two parts the same bytes as in one; a step's seed is its own."""
    whole, parts = trainer(dropout=ALL), trainer(dropout=ALL)
    whole.run()
    parts.run(until=2)
    parts.run()
    assert all(torch.equal(one, two) for one, two in zip(weights(whole), weights(parts), strict=True))
    assert len({step_seed(whole.spec, step) for step in range(100)}) == 100


def test_the_probe_of_causality_sees_no_dropout() -> None:
    """It compares passes over different tokens, whose draws would differ."""
    run = trainer(dropout=ALL)
    assert run.flow().dropout is None
    require_causal(run, document(train={"dropout": ALL}))


def test_members_of_a_population_drop_by_seeds_of_their_own() -> None:
    """Under vmap, a seed a member gives what each gets alone."""
    tiny, tokens_BT = model(), torch.randint(0, 256, (2, 8), generator=torch.Generator().manual_seed(0))

    def loss(seed_1: Tensor) -> Tensor:
        return tiny.losses(tokens_BT, tokens_BT, flow=Flow(dropout=Dropout(ALL, seed_1))).total

    seeds = torch.tensor([[3], [4]])
    together = torch.func.vmap(loss)(seeds)
    torch.testing.assert_close(together, torch.stack([loss(seed) for seed in seeds]), rtol=1e-5, atol=1e-6)
    assert together[0] != together[1]


def z_loss(tiny: Organism, tokens_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """The definition."""
    squares_BT = tiny(tokens_BT).logsumexp(-1).square()
    return (squares_BT * weights_BT).sum() / weights_BT.sum()


def test_z_loss_is_the_mean_square_of_the_log_sum() -> None:
    """By its name among the losses, over the targets that count, with a gradient."""
    tiny = model(readout={"z_loss": 0.5, "soft_cap": 5.0})
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(0, 256, (2, 8), generator=generator)
    weights_BT = torch.rand(2, 8, generator=generator)
    losses = tiny.losses(tokens_BT, tokens_BT, weights_BT)
    assert tiny.plan.losses == ("z",) == tuple(losses.auxiliary)
    wanted = 0.5 * z_loss(tiny, tokens_BT, weights_BT)
    torch.testing.assert_close(losses.auxiliary["z"], wanted)
    torch.testing.assert_close(losses.total, losses.task + wanted)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, tiny.embedding.weight)[0] for value in (losses.auxiliary["z"], wanted))
    )
