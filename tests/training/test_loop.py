"""The training loop: repeatable, clipped, guarded, and moved by every setting."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import document, model, task
from torch import nn

from evo.dsl.canonical import to_data
from evo.dsl.document import Document, from_data
from evo.training import loop
from evo.training.loop import BudgetError, DivergedError, Progress, Trainer

OPTIMIZERS = ("adamw", "muon", "lion")


def trained(train: dict[str, Any] | None = None, steps: int | None = None, **settings: Any) -> dict[str, torch.Tensor]:
    """The weights after training a fresh tiny model."""
    made = document(train=train)
    trainer = Trainer(model(train=train, seed=made.train.seed), task(), made.train, steps=steps, **settings)
    trainer.run()
    return {path: parameter.detach().clone() for path, parameter in trainer.model.named_parameters()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Whether all weights are equal, bit for bit."""
    return all(torch.equal(one[path], two[path]) for path in one)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_same_seed_gives_the_same_weights(kind: str) -> None:
    """Training twice gives equal weights, bit for bit; another seed gives others."""
    settings = {"optimizer": {"kind": kind}}
    assert same(trained(settings), trained(settings))
    assert not same(trained(settings), trained({**settings, "seed": 1}))


def test_the_global_random_state_is_left_alone() -> None:
    """Training neither reads nor moves torch's own generator."""
    torch.manual_seed(1)
    before, one = torch.get_rng_state(), trained()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(one, trained())


def test_stopping_on_the_way_changes_nothing() -> None:
    """A run in three parts ends at the weights of one in a single part."""
    made = document()
    trainer = Trainer(model(), task(), made.train)
    for until in (1, 3, 9):
        trainer.run(until)
    assert trainer.step == made.train.steps
    assert same(trained(), dict(trainer.model.named_parameters()))


def test_looks_that_lag_behind_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host reads a look when the next one is launched, as on a GPU, it is told what it would have seen; at a
    stop, what led there."""

    def told(stop: int = 0) -> list[Progress]:
        made, seen = document(train={"steps": 7}), list[Progress]()
        trainer = Trainer(model(), task(), made.train)
        take = trainer._step

        def step() -> torch.Tensor:
            if stop and trainer.step == stop:
                raise KeyboardInterrupt
            return take().clone()

        monkeypatch.setattr(trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt) if stop else nullcontext():
            trainer.run(on_step=seen.append)
        return [replace(progress, seconds=0.0) for progress in seen]

    at_once = told()
    monkeypatch.setitem(loop.RHYTHMS, "cpu", (2, 1))
    last = len(at_once)
    assert told() == [progress for progress in at_once if progress.step % 2 == 0 or progress.step == last]
    assert [progress.step for progress in told(stop=5)] == [2, 4]


def test_a_stop_while_a_look_is_waited_for_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU that is where nearly all stops fall: what was on its way is told, the awaited look too."""
    monkeypatch.setitem(loop.RHYTHMS, "cpu", (2, 1))
    seen = list[int]()
    trainer = Trainer(model(), task(), document(train={"steps": 8}).train)
    plain, stops = trainer.progress, [False, True]

    def progress(*args: Any) -> Progress:
        if stops and stops.pop(0):
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(trainer, "progress", progress)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(on_step=lambda progress: seen.append(progress.step))
    assert seen == [2, 4, 6]


def test_it_learns() -> None:
    """Sixty steps bring the loss on a text with little surprise well below that of a uniform guess."""
    made = document(train={"steps": 60, "batch": 4, "optimizer": {"kind": "adamw", "lr": 1e-2}})
    seen: list[Progress] = []
    loss = Trainer(model(), task(), made.train).run(on_step=seen.append)
    assert loss < 0.7 * seen[0].loss
    assert [progress.step for progress in seen] == list(range(1, 61))
    assert seen[-1].tokens == 60 * 4 * made.organism.context
    assert seen[-1].loss == loss


def test_offset_moves_the_text_only() -> None:
    """A child of offset n reads at step i what its ancestry would have read at step n + i."""
    made = document()
    network = model()
    plain = Trainer(network, task(), made.train)
    later = Trainer(network, task(), made.train, offset=2)
    assert plain.losses(2).task.item() == later.losses(0).task.item()
    assert plain.losses(0).task.item() != later.losses(0).task.item()


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    """NaN and infinity raise at the step where they appear."""
    network = model()
    with torch.no_grad():
        network.get_parameter("embedding.weight").fill_(float("nan"))
    with pytest.raises(DivergedError, match="the loss became nan at step 1 of 4"):
        Trainer(network, task(), document().train).run()


def test_weights_that_are_no_numbers_stop_the_run() -> None:
    """A last step that breaks the weights raises, though every loss was finite."""
    trainer = Trainer(model(), task(), document().train)
    trainer.run(3)
    break_weights(trainer)
    with pytest.raises(DivergedError, match="no finite number after step 4 of 4"):
        trainer.run()


def break_weights(trainer: Trainer) -> None:
    """Let the next optimizer step end in infinity."""
    plain = trainer.optimizer.step

    def step(*args: Any) -> None:
        plain(*args)
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(float("inf"))

    trainer.optimizer.step = step  # type: ignore[method-assign]


def test_the_budget_of_time_stops_the_run() -> None:
    """A run past its seconds raises, with a message that does not tell how fast the machine was."""
    with pytest.raises(BudgetError, match=r"^training took more than 0 s$"):
        Trainer(model(), task(), document().train).run(max_seconds=0.0)


def test_clipping_bounds_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the optimizer has at most the norm that `clip` names, and its full norm with null."""
    norms: dict[float | None, float] = {}
    for clip in (0.01, None):
        made = document(train={"clip": clip})
        trainer = Trainer(model(), task(), made.train)
        trainer.run(1)
        norms[clip] = float(nn.utils.get_total_norm([p.grad for p in trainer.model.parameters() if p.grad is not None]))
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)
    assert norms[None] is not None
    assert norms[None] > 0.1


ANOTHER: dict[str, tuple[Any, Any]] = {
    "batch": (2, 3),
    "steps": (4, 5),
    "context": (None, 12),
    "clip": (0.05, 0.1),
    "precision": ("fp32", "bf16"),
    "seed": (0, 1),
    "dropout": ({"residual": 0.1}, {"residual": 0.5}),
    "rates": (None, {"kind": "mup", "base": 8}),
}
"""Two values for each plain field of a training spec."""

ADAMW = {"lr": (3e-3, 4e-3), "beta1": (0.9, 0.8), "beta2": (0.95, 0.9), "eps": (1e-8, 1e-2), "weight_decay": (0.1, 0.5)}
MUON = {
    "lr": (2e-2, 3e-2), "momentum": (0.95, 0.5), "nesterov": (True, False), "steps": (5, 3),
    "weight_decay": (0.1, 0.5), "adamw_lr": (3e-3, 4e-3),
}  # fmt: skip
LION = {"lr": (5e-4, 1e-3), "beta1": (0.9, 0.5), "beta2": (0.99, 0.2), "weight_decay": (0.3, 1.0)}
WSD = {"warmup": (0.0, 0.6), "decay": (0.25, 0.4)}
COSINE = {"warmup": (0.0, 0.6), "floor": (0.1, 0.3)}
CONSTANT = {"warmup": (0.0, 0.6)}
KINDS = {
    ("optimizer", "adamw"): ADAMW, ("optimizer", "muon"): MUON, ("optimizer", "lion"): LION,
    ("schedule", "wsd"): WSD, ("schedule", "cosine"): COSINE, ("schedule", "constant"): CONSTANT,
}  # fmt: skip


def test_every_field_has_a_flip() -> None:
    """The flips below name every field of the training spec and of each optimizer and schedule there is."""
    from evo.dsl.index import kind_class, kinds
    from evo.dsl.spec import spec_fields
    from evo.dsl.train import TrainSpec

    assert set(spec_fields(TrainSpec)) == {
        *ANOTHER,
        "task",
        "optimizer",
        "schedule",
        "life",
        "budget",  # which is steps
        "activation_checkpointing",  # which changes no number, see test_checkpointing.py
    }
    assert set(KINDS) == {(role, kind) for role in ("optimizer", "schedule") for kind in kinds(role)}
    for (role, kind), flips in KINDS.items():
        assert set(spec_fields(kind_class(role, kind))) == set(flips), kind


@pytest.mark.parametrize("field", ANOTHER)
def test_every_training_field_counts(field: str) -> None:
    """Changing one field of `train` changes the weights that training ends with."""
    one, two = ANOTHER[field]
    assert not same(trained({field: one}), trained({field: two}))


@pytest.mark.parametrize(("role", "kind", "field"), [(*key, field) for key, flips in KINDS.items() for field in flips])
def test_every_field_of_a_rule_counts(role: str, kind: str, field: str) -> None:
    """Changing one field of an optimizer or a schedule changes the weights that training ends with."""
    one, two = KINDS[role, kind][field]
    assert not same(trained({role: {"kind": kind, field: one}}), trained({role: {"kind": kind, field: two}}))


def test_flipped_documents_are_read_back() -> None:
    """What training reads is what the document says: settings survive the canonical form."""
    made: Document = document(train={"optimizer": {"kind": "lion", "beta2": 0.5}, "precision": "bf16"})
    assert from_data(to_data(made)).document.train == made.train
