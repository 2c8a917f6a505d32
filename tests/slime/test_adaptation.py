"""Learning at test time: it helps where the world has changed, and messages decide how much."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from evo.api.slime import Adaptation, Bus, Feedback, FlowState, Message, MetricsCollector, SlimeMoldEncoder


def bowl(scale: float = 1.0) -> tuple[nn.Parameter, nn.Parameter]:
    """Two parameters, of which `loss` has a minimum at 0."""
    return nn.Parameter(torch.full((3,), scale)), nn.Parameter(torch.full((2,), scale))


def loss(a: Tensor, b: Tensor) -> Tensor:
    """Steeper along b."""
    return a.square().sum() + 25.0 * b.square().sum()


def test_rates_follow_agreement() -> None:
    """A component that goes one way speeds up by 1.2 at most, one that swings across its minimum slows down."""
    a, b = bowl()
    metrics = MetricsCollector()
    adaptation = Adaptation({"slow": [a], "steep": [b]}, Bus(), 0.05, clip=1e9, worse=9.0, metrics=metrics)
    for _ in range(4):
        adaptation.update(loss(a, b))
    assert metrics.get("adaptation_rate_slow")[:3] == pytest.approx([0.05, 0.05, 0.06])
    assert metrics.get("adaptation_rate_steep")[2] == pytest.approx(0.04)
    assert metrics.get("adaptation_loss")[-1] < metrics.get("adaptation_loss")[0]


def test_components_are_clipped_together() -> None:
    """One step moves all by no more than rate * clip, in the proportions of their gradients."""
    a, b = bowl()
    Adaptation({"a": [a], "b": [b]}, Bus(), 0.1, clip=2.0).update(loss(a, b))
    moved = torch.cat((1.0 - a.detach(), 1.0 - b.detach()))
    assert float(moved.norm()) == pytest.approx(0.2, rel=1e-5)
    assert float(moved[3] / moved[0]) == pytest.approx(25.0, rel=1e-3)


def test_a_setback_is_taken_back_and_told() -> None:
    """A loss of twice the best, or none at all, brings back the best weights, halves the rates, and is published."""
    a, b = bowl()
    bus, heard = Bus(), list[float]()
    bus.subscribe("setback", lambda message: heard.append(message.value))
    adaptation = Adaptation({"all": [a, b]}, bus, 0.01)
    assert adaptation.update(loss(a, b))
    assert adaptation.update(loss(a, b))
    best = a.detach().clone(), b.detach().clone()
    assert adaptation.update(loss(a, b))
    at_best = adaptation.best
    assert at_best is not None
    with torch.no_grad():
        a.mul_(50.0)
    rate = adaptation.components["all"].rate
    assert not adaptation.update(loss(a, b))
    assert not torch.equal(a, 50.0 * best[0])
    assert float(loss(a, b).detach()) == pytest.approx(at_best)
    assert adaptation.components["all"].rate == rate / 2
    assert not adaptation.update(loss(a, b) * float("nan"))
    assert len(heard) == 2
    with torch.no_grad():
        a.mul_(50.0)
    assert adaptation.update(loss(a, b))


def test_what_was_expected_teaches_nothing() -> None:
    """A message of surprise changes how far the next update goes, in proportion, up to the full step."""
    steps = []
    for surprise in (None, 0.0, 0.5, 1.0, 7.0):
        a, b = bowl()
        bus = Bus()
        adaptation = Adaptation({"all": [a, b]}, bus, 0.1)
        if surprise is not None:
            bus.publish(Message("surprise", surprise))
            bus.deliver()
        adaptation.update(loss(a, b))
        steps.append(float((1.0 - b.detach()).sum()))
    whole, nothing, half, once, capped = steps
    assert nothing == 0.0
    assert (half, once, capped) == pytest.approx((whole / 2, whole, whole), rel=1e-4)


def test_an_encoder_learns_what_has_changed() -> None:
    """Its own surprise, told over the bus, lets it learn to give what it gave when inputs grow threefold."""
    encoder, bus, generator = SlimeMoldEncoder(8, 8, 4, 2), Bus(), torch.Generator().manual_seed(0)
    feedback = Feedback(bus)
    components = {"sense": [encoder.sense], "pool": [encoder.norm, encoder.pool.gain], "memory": [encoder.tube]}
    adaptation = Adaptation(components, bus, 0.1, fully=0.5)
    x = torch.randn(2, 6, 8, generator=generator)
    wanted = encoder(x).detach()
    state, errors, shares = FlowState(), list[float](), list[float]()
    for step in range(20):
        y, state = encoder.flow(x if step < 2 else 3.0 * x, state, feedback)
        error = (y - wanted).square().mean()
        adaptation.update(error)
        errors.append(float(error.detach()))
        shares.append(adaptation.share)
        state = FlowState(state.tubes.detached(), state.blocks, state.seen)
    assert shares[2] > 2 * shares[1]
    assert errors[-1] < 0.5 * errors[2]


def test_a_parameter_has_one_component() -> None:
    """Twice, or none at all, is refused."""
    a, _ = bowl()
    for components in ({"x": [a], "y": [a]}, {}):
        with pytest.raises(ValueError, match="each in one"):
            Adaptation(components, Bus())
