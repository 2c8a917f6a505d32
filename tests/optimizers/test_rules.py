"""Rules of optimizers: published formulas, oracles nobody here wrote, and one step for every way of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evo.optimizers.adamw.rule import AdamW
from evo.optimizers.lion.rule import Lion
from evo.optimizers.muon import rule as muon
from evo.optimizers.muon.rule import Muon, orthogonal
from evo.optimizers.rule import Rule, State

ADAMW = AdamW(3e-3, 0.9, 0.95, 1e-8, 0.1)
MUON = Muon(2e-2, 0.95, True, 5, 0.1)
LION = Lion(2e-3, 0.9, 0.99, 0.3)
RULES: dict[str, Rule] = {"adamw": ADAMW, "muon": MUON, "lion": LION}
SHAPES = [(16, 16), (48, 16), (16, 48), (40, 16), (40, 16)]


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def follow(rule: Rule, starts: list[Tensor], steps: int, rate: Callable[[int], Tensor | float]) -> list[Tensor]:
    """Where parameters are after some steps along gradients that are drawn anew each time."""
    parameters: list[Tensor] = [start.clone() for start in starts]
    states: list[State] = [rule.init(parameter) for parameter in parameters]
    for step in range(steps):
        rule.step(parameters, _gradients(parameters, step), states, rate(step))
    return parameters


def _gradients(parameters: list[Tensor], step: int) -> list[Tensor]:
    return [draw(tuple(p.shape), 100 * step + index, p.dtype) for index, p in enumerate(parameters)]


def oracle(make: Callable[[Any], torch.optim.Optimizer], starts: list[Tensor], steps: int, lr: float) -> list[Tensor]:
    """The same with an optimizer of torch's, at a rate that falls."""
    parameters = [nn.Parameter(start.clone()) for start in starts]
    optimizer = make(parameters)
    for step in range(steps):
        for parameter, gradient in zip(parameters, _gradients(list(parameters), step), strict=True):
            parameter.grad = gradient
        optimizer.param_groups[0]["lr"] = lr * 0.9**step
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def test_adamw_is_torchs() -> None:
    """Twenty steps end at the very bytes of torch's fused AdamW."""
    starts = [draw(shape, seed) for seed, shape in enumerate([*SHAPES, (7,)])]
    make = lambda p: torch.optim.AdamW(p, lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)  # noqa: E731
    theirs = oracle(make, starts, 20, 3e-3)
    ours = follow(ADAMW, starts, 20, lambda step: 3e-3 * 0.9**step)
    assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("nesterov", "iterations"), [(True, 5), (False, 3)])
def test_muon_is_torchs(monkeypatch: pytest.MonkeyPatch, nesterov: bool, iterations: int) -> None:
    """Twenty steps end at the very bytes of torch's Muon, which takes one matrix at a time, in its arithmetic."""
    monkeypatch.setattr(muon, "_arithmetic", lambda device: torch.bfloat16)
    starts = [draw(shape, seed) for seed, shape in enumerate(SHAPES)]

    def make(parameters: Any) -> torch.optim.Optimizer:
        settings = {"lr": 2e-2, "weight_decay": 0.1, "momentum": 0.95, "adjust_lr_fn": "original"}
        return torch.optim.Muon(parameters, nesterov=nesterov, ns_steps=iterations, **settings)

    theirs = oracle(make, starts, 20, 2e-2)
    ours = follow(Muon(2e-2, 0.95, nesterov, iterations, 0.1), starts, 20, lambda step: 2e-2 * 0.9**step)
    assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))


def test_muon_rounds_to_float32_on_a_cpu() -> None:
    """Newton-Schulz steps of tall, wide and stacked matrices are those in float64, as Jordan et al. write them."""
    for shape in ((24, 16), (16, 40), (3, 12, 12)):
        x = draw(shape, 5, torch.float64)
        expected = x / x.norm(dim=(-2, -1), keepdim=True)
        for _ in range(5):
            gram = expected @ expected.mT
            expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
        found = orthogonal(x.float()[None], 5)[0]
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


def test_lion_agrees_with_an_independent_one() -> None:
    """Twenty steps equal those of the package lion-pytorch."""
    lion_pytorch = pytest.importorskip("lion_pytorch")
    starts = [draw((8, 8), 0, torch.float64)]
    make = lambda p: lion_pytorch.Lion(p, lr=2e-3, betas=(0.9, 0.99), weight_decay=0.3)  # noqa: E731
    (theirs,) = oracle(make, starts, 20, 2e-3)
    (ours,) = follow(LION, starts, 20, lambda step: 2e-3 * 0.9**step)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_lion_by_hand() -> None:
    """Two steps of Lion on two numbers, worked on paper from algorithm 2 of arXiv 2302.06675."""
    rule, weight = Lion(0.1, 0.5, 0.75, 0.5), torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    state = rule.init(weight)
    rule.step([weight], [torch.tensor([[4.0, -4.0]], dtype=torch.float64)], [state], 0.1)
    # m = 0: c = (2, -2); w = 0.95 w - 0.1 sign(c); m = (1, -1)
    torch.testing.assert_close(weight, torch.tensor([[0.85, -1.8]], dtype=torch.float64))
    rule.step([weight], [torch.tensor([[-0.5, 2.0]], dtype=torch.float64)], [state], 0.1)  # c = (0.25, 0.5)
    torch.testing.assert_close(weight, torch.tensor([[0.7075, -1.81]], dtype=torch.float64))
    torch.testing.assert_close(state["momentum"], torch.tensor([[0.625, -0.25]], dtype=torch.float64))


def muon_step(gradient: Tensor) -> Tensor:
    """What one step of Muon takes from a weight of zeros, over rate and scale, in float64."""
    weight = torch.zeros(gradient.shape)
    MUON.step([weight], [gradient], [MUON.init(weight)], MUON.lr)
    return -weight.double() / (MUON.lr * max(1.0, gradient.shape[0] / gradient.shape[1]) ** 0.5)


def test_muon_steps_along_the_polar_factor() -> None:
    """A Muon step is close in direction to the exact polar factor U V^T of the gradient, closer than the gradient."""
    gradient = draw((48, 32), 0, torch.float64)
    step = muon_step(gradient.float())
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    exact = left @ right
    cosine = (step * exact).sum() / (step.norm() * exact.norm())
    plain = (gradient * exact).sum() / (gradient.norm() * exact.norm())
    assert cosine > 0.97
    assert cosine > plain + 0.02
    singular = torch.linalg.svdvals(step)
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_muon_spectrum_is_flat_even_for_a_skewed_gradient() -> None:
    """Singular values spread over a factor of 30 leave within a factor of 2.5: the update reaches every direction."""
    left, _, right = torch.linalg.svd(draw((32, 32), 1))
    singular = torch.linalg.svdvals(muon_step(left @ torch.diag(torch.logspace(0, -1.5, 32)) @ right))
    assert singular.max() / singular.min() < 2.5


@pytest.mark.parametrize("kind", RULES)
def test_a_rate_may_be_a_tensor(kind: str) -> None:
    """A rate that the device holds takes the steps of a number, up to float32's rounding."""
    rule, starts = RULES[kind], [draw((24, 16), 3), draw((24, 16), 4)]
    rates = [rule.lr * 0.9**step for step in range(8)]
    numbers = follow(rule, starts, 8, rates.__getitem__)
    tensors = follow(rule, starts, 8, lambda step: torch.tensor(rates[step]))
    for one, two in zip(numbers, tensors, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", RULES)
def test_a_stack_takes_the_steps_of_its_members(kind: str) -> None:
    """Parameters of several models, stacked in front, end where each ends alone, to the last byte."""
    rule, members = RULES[kind], [draw((24, 16), seed) for seed in range(3)]
    alone, states = [member.clone() for member in members], [rule.init(member) for member in members]
    stack = torch.stack(members)
    state = rule.init(stack)
    for step in range(5):
        gradients = [draw((24, 16), 10 * step + index) for index in range(3)]
        rule.step(alone, gradients, states, rule.lr)
        rule.step([stack], [torch.stack(gradients)], [state], rule.lr)
    assert torch.equal(stack, torch.stack(alone))
