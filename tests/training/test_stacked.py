"""Stacked trainings: each member ends where it ends alone, whoever it is stacked with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import MIXERS, document, model, task

from evo.training.loop import BudgetError, DivergedError, Progress, Trainer
from evo.training.stacked import Stack, StackError, pays
from evo.training.state import pack_state, restore_state

STEPS = 6
ROUTED = {"route": [MIXERS["attention"], MIXERS["convolution"]], "top_k": 1, "balance": 0.1}
AGAIN = {"activation_checkpointing": True}
ALL = {**MIXERS, "routed": ROUTED}


def trainer(seed: int, mix: Any = None, **train: Any) -> Trainer:
    """A trainer of a fresh tiny model, drawn by a seed of its own."""
    settings = {"steps": STEPS, "seed": seed, **train}
    return Trainer(model(mix, seed, train=settings), task(), document(mix, train=settings).train, mode="eager")


def assert_alike(one: Trainer, two: Trainer, start: Trainer, share: float = 1e-3) -> None:
    """Two trainings moved to the same place, up to a share of how far they went."""
    for a, b, c in zip(one.model.parameters(), two.model.parameters(), start.model.parameters(), strict=True):
        assert (a - b).norm() <= share * (b - c).norm() + 1e-7


@pytest.mark.parametrize("mix", ALL.values(), ids=ALL)
def test_members_end_where_they_end_alone(mix: Any) -> None:
    """Weights, losses that are told, gradient norms and optimizer state, for any mixer."""
    told: list[list[Progress]] = [[], [], [], []]
    stacked, alone = ([trainer(seed, mix) for seed in (3, 5)] for _ in range(2))
    assert Stack(stacked).run(on_steps=[told[0].append, told[1].append]) == [None, None]
    for member, own in enumerate(alone):
        own.run(on_step=told[2 + member].append)
        assert_alike(stacked[member], own, trainer(own.spec.seed, mix))
        for one, two in zip(told[member], told[2 + member], strict=True):
            assert (one.step, one.rate, one.tokens) == (two.step, two.rate, two.tokens)
            assert one.loss == pytest.approx(two.loss, rel=1e-4)
            assert one.gradient_norm == pytest.approx(two.gradient_norm, rel=1e-3)
            assert one.auxiliary == pytest.approx(two.auxiliary, rel=1e-3)
        assert stacked[member].step == STEPS


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"optimizer": {"kind": "adamw", "lr": 1e-3}}, {"optimizer": {"kind": "muon"}}),
        ({"clip": None, "schedule": {"kind": "cosine"}}, {"clip": 0.05}),
    ],
    ids=["optimizers", "clipping"],
)
def test_members_may_update_by_settings_of_their_own(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Optimizers, schedules and clipping, dropout being common to them."""
    dropout = {"attention": 0.2, "residual": 0.1, "embedding": 0.3, "block": 0.2}
    settings = [{"dropout": dropout, **own} for own in (one, two)]
    stacked, alone, start = ([trainer(1, **own) for own in settings] for _ in range(3))
    Stack(stacked).run()
    for member, own in enumerate(alone):
        own.run()
        assert_alike(stacked[member], own, start[member], 0.02 if "muon" in str(settings[member]) else 1e-3)


def test_the_same_stack_gives_the_same_bytes_also_after_a_stop() -> None:
    """In one go, in two parts, and from packed states in a stack made anew."""
    whole, parts, later = ([trainer(seed) for seed in (0, 1, 2)] for _ in range(3))
    Stack(whole).run()
    stack = Stack(parts)
    stack.run(2)
    packed = [pack_state(member) for member in parts]
    stack.run()
    for member, state in zip(later, packed, strict=True):
        restore_state(member, state)
    Stack(later).run()
    for others in (parts, later):
        for one, two in zip(whole, others, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))


def test_a_member_that_diverges_takes_nobody_along() -> None:
    """It is told no more; the other ends as beside an honest one, to the byte."""
    settings = {"optimizer": {"kind": "adamw", "lr": 1e-2}}
    pair, broken = ([trainer(seed, **settings) for seed in (0, 1)] for _ in range(2))
    with torch.no_grad():
        next(broken[0].model.parameters()).fill_(float("nan"))
    told: list[Progress] = []
    failures = Stack(broken).run(on_steps=[told.append, None])
    Stack(pair).run()
    assert isinstance(failures[0], DivergedError)
    assert failures[1] is None
    assert not told
    for one, two in zip(broken[1].model.parameters(), pair[1].model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("common", "train", "mix", "why"),
    [
        ({}, {"batch": 3}, None, "more than seeds"),
        ({}, {"steps": STEPS + 1}, None, "not the same ones"),
        ({}, {}, MIXERS["convolution"], "plans differ"),
        (AGAIN, AGAIN, None, "computed again"),
    ],
)
def test_what_cannot_be_stacked_is_refused_with_the_reason(
    common: dict[str, Any], train: dict[str, Any], mix: Any, why: str
) -> None:
    """Before a weight has moved."""
    with pytest.raises(StackError, match=why):
        Stack([trainer(0, **common), trainer(1, mix, **train)])


def test_time_that_is_over_ends_all() -> None:
    """As it ends one."""
    with pytest.raises(BudgetError):
        Stack([trainer(0), trainer(1)]).run(max_seconds=0.0)


def test_small_steps_are_stacked_on_a_cpu_and_none_on_a_gpu() -> None:
    """By what a step costs, not by how long it took."""
    plain, again = (document(train=own).train for own in ({}, AGAIN))
    assert pays(plain, 1e7, "cpu")
    assert not pays(plain, 1e10, "cpu")
    assert not pays(plain, 1e7, "cuda")
    assert not pays(again, 1e7, "cpu")
