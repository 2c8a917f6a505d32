"""Pools live: who is born and dies, when, by chance that is no accident; in place, to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from living import LIFE, kinds, life_of, living, run, trainer

from evo.base.rundirs import METRICS
from evo.base.streams import Stream
from evo.dsl.canonical import to_yaml
from evo.dsl.spec import spec_fields
from evo.evolution.evaluate import TrialJob, evaluate
from evo.evolution.trial import Budget
from evo.slime.lives import lives
from evo.slime.spec import AnnealedLifeSpec
from evo.tasks.bytes.task import BytesTask
from evo.training import run as module
from evo.training.captured import DeviceStep
from evo.training.checkpoint import load_checkpoint
from evo.training.run import FILE, TrainingRun
from evo.training.state import pack_state, restore_state

OF = {"attention": None, "convolution": {"kind": "convolution", "size": 3}}


@pytest.mark.parametrize("of", OF.values(), ids=OF)
def test_pseudopods_are_born_and_die(of: Any) -> None:
    """Nothing happens in the warm-up, nothing dies in the gentle phase; gains tell who is alive; nothing moves in
    memory; newborns come from elites."""
    training = trainer(living({"of": of}))
    before = {path: p.data_ptr() for path, p in training.model.named_parameters()}
    events = run(training)
    births, deaths, looks = (kinds(events, kind) for kind in ("birth", "death", "look"))
    assert births
    assert deaths
    assert min(event["step"] for event in events) == 2
    assert min(event["step"] for event in deaths) >= LIFE["gentle"]
    assert any(event["parent"] for event in births)
    assert before == {path: p.data_ptr() for path, p in training.model.named_parameters()}
    (colony,) = life_of(training).colonies
    alive = int((colony.pool.gain != 0).sum())
    assert alive == looks[-1]["pool_size"] == 3 + len(births) - len(deaths)
    assert training.companion is not None
    spaces = kinds(events, "space")
    assert spaces
    assert all(0 <= event["kmo"] <= 1 <= event["kernel_dims"] for event in spaces)
    told = lives(events)
    assert sum(lived.died is None for lived in told) == alive
    assert sum(lived.born > 0 for lived in told) == len(births)
    assert {lived.parent for lived in told} - {""} <= {lived.name for lived in told}
    figures = training.companion.figures()
    assert (figures["births"], figures["deaths"], figures["pool_size"]) == (len(births), len(deaths), alive)
    assert 0 < figures["archive_coverage"] <= 1


def test_the_same_seed_lives_the_same_life() -> None:
    """Two trainings give the same events and bytes; another seed gives others."""
    one, two, other = trainer(living()), trainer(living()), trainer(living(train={"seed": 1}))
    assert run(one) == run(two)
    assert pack_state(one) == pack_state(two)
    run(other)
    assert pack_state(one) != pack_state(other)


@pytest.mark.parametrize(
    ("stop", "every"),
    [pytest.param(3, 2, marks=pytest.mark.slow), (8, 2), (8, 8)],
    ids=["between", "at", "decided later"],
)
def test_a_restored_life_goes_on(stop: int, every: int) -> None:
    """Stopped and restored into another trainer, a training ends at the same bytes, its archive included; also between
    a look and what it leads to."""
    whole, first, second = (trainer(living(every=every)) for _ in range(3))
    events = run(whole)
    before = run(first, stop)
    restore_state(second, pack_state(first))
    assert before + run(second) == events
    assert pack_state(second) == pack_state(whole)


def test_what_a_look_leads_to_comes_later() -> None:
    """A quarter of the interval behind it, whatever happened in between: who died meanwhile is not brought back."""
    made = living(steps=40, every=8, warmup=8, gentle=40)
    events = run(trainer(made), 10)
    assert [(event["event"], event["step"]) for event in events] == [("birth", 10), ("look", 10)]
    other = trainer(made)
    other.run(8)
    life = life_of(other)
    assert [event["cause"] for event in life.relieve(8)] == ["memory"]
    other.run(10)
    assert life.colonies[0].counts == {"births": 0, "deaths": 1}


@pytest.mark.slow
def test_killed_and_resumed_runs_leave_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evo train`: checkpoint and events are those of a run that was not stopped."""
    monkeypatch.setattr(module, "HELD_OUT_TOKENS", 200)
    made = living()

    class Stop(Exception):
        pass

    def opened(folder: str, resume: bool = False) -> TrainingRun:
        (tmp_path / folder).mkdir(exist_ok=True)
        return TrainingRun.open(made, tmp_path, tmp_path / folder, "cpu", resume=resume)

    def stop(progress: Any) -> None:
        if progress.step == 9:
            raise Stop

    opened("whole").carry_out(None, 100)
    with pytest.raises(Stop):
        opened("parts").carry_out(stop, 4)
    assert load_checkpoint(tmp_path / "parts" / FILE).step == 8
    opened("parts", resume=True).carry_out(None, 4)
    files = [(tmp_path / folder / FILE).read_bytes() for folder in ("whole", "parts")]
    assert files[0] == files[1]
    lines = [
        [line for line in (tmp_path / folder / METRICS).read_text().splitlines() if '"events"' in line]
        for folder in ("whole", "parts")
    ]
    assert lines[0] == lines[1] != []


@pytest.mark.slow
def test_captured_steps_note_what_eager_ones_do() -> None:
    """The body that is captured on a GPU leaves the same vitals, loss average and weights, births included."""
    eager, other = trainer(living(steps=8)), trainer(living(steps=8))
    eager.run()
    source = other.task.on_device(other.device)
    assert source is not None
    step = DeviceStep(
        other.model, source, other.spec, other.context, other.optimizer, other.rate, companion=other.companion
    )
    other.model.train()
    for index in range(8):
        step.take(index)
        other.step = index
        other._advance()
        step.begin()
    for one, two in zip(life_of(eager).tensors(), life_of(other).tensors(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-8)
    for one, two in zip(eager.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("of", OF.values(), ids=OF)
def test_a_captured_life_repeats_to_the_byte(of: Any) -> None:
    """On a GPU, steps are captured while pools live, and two trainings give the same births, deaths and bytes."""
    made = living({"of": of}, steps=40)
    runs = [trainer(made, "captured", "cuda") for _ in range(2)]
    events = [run(training) for training in runs]
    assert [training.step_mode for training in runs] == ["captured", "captured"]
    assert kinds(events[0], "birth")
    assert events[0] == events[1]
    assert pack_state(runs[0]) == pack_state(runs[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("of", OF.values(), ids=OF)
def test_a_replayed_look_sees_what_a_launched_one_does(of: Any) -> None:
    """The second look is captured, pool beside pool, and its replay with another row gives what its operations give."""
    training = trainer(living({"of": of}, steps=400, layers=3, every=8, warmup=8, gentle=400), "captured", "cuda")
    run(training, 20)
    glance = life_of(training).glance
    assert glance.refusal == ""
    assert glance.replay is not None
    before = [colony.vitals.gradient_P.clone() for colony in glance.colonies]
    replayed = {name: tensor.clone() for name, tensor in glance.take(24).items()}
    for colony, gradient_P in zip(glance.colonies, before, strict=True):
        colony.vitals.gradient_P.copy_(gradient_P)
    row_1T = training._row(24).to(training.device)
    launched = glance._measured(row_1T, lambda one: glance._drawn(one, 24))
    torch.testing.assert_close(replayed, launched, rtol=1e-4, atol=1e-5)


def test_what_is_noted_aside_reads_nothing_that_the_update_changes() -> None:
    """Parameters and gradients may be anything meanwhile: the update is at work."""
    noted: list[list[torch.Tensor]] = []
    for is_spoilt in (False, True):
        training = trainer(living())
        training.run(1)
        held = [t for p in training.model.parameters() for t in (p.detach(), p.grad) if t is not None]

        @contextmanager
        def aside(*_: torch.Tensor, changed: list[torch.Tensor] = held if is_spoilt else []) -> Iterator[None]:
            before = [t.clone() for t in changed]
            for t in changed:
                t.fill_(torch.nan)
            yield
            for t, value in zip(changed, before, strict=True):
                t.copy_(value)

        life_of(training).note(torch.tensor(3.0), aside)
        noted.append(life_of(training).tensors())
    torch.testing.assert_close(noted[0], noted[1], rtol=0, atol=0, equal_nan=True)


def test_a_look_that_cannot_be_captured_is_told_of() -> None:
    """It is launched, sees what it would have seen, and the training says why at its end."""
    plain, refused = trainer(living()), trainer(living())
    plain.run(3)
    refused.run(3)
    life = life_of(refused)
    (colony,) = life.colonies
    colony.vitals.captured = {path: torch.zeros(1) for path, _ in colony.pool.named_parameters()}  # as on a GPU
    assert run(refused) == run(plain)
    (warning,) = [text for text in life.warnings() if "looks" in text]
    assert warning.startswith("looks at pools are launched, not replayed: ")
    assert len(warning.splitlines()) == 1
    assert not any("looks" in text for text in life_of(plain).warnings())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_life_does_not_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """No operation of a look, of a birth, or of a death reads the device; only the copy of what was seen is waited
    for."""
    settings: dict[str, Any] = {"every": 8, "warmup": 8, "gentle": 16, "cull_every": 16}
    training = trainer(living({"slots": 8}, steps=400, **settings), "captured", "cuda")
    run(training, 18)  # kernels are compiled, and looks captured
    life = life_of(training)
    between = life.between

    def watched(step: int) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return between(step)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(life, "between", watched)
    events = run(training, 60)
    assert kinds(events, "birth")
    assert kinds(events, "death")


def test_a_loss_that_explodes_freezes_life() -> None:
    """From ten times the average on nothing is born or dies, until the loss is below twice that; the average waits."""
    life = life_of(trainer(living()))
    states = []
    for loss in (torch.nan, 1.0, 1.0, 11.0, 5.0, 2.5, 1.9, 3.0, torch.nan, torch.inf, 1.0):
        life.gate.follow([loss])
        states.append(life.gate.is_closed)
    assert states == [False, False, False, True, True, True, False, False, True, True, False]
    life.note(torch.tensor(2.0))
    life.note(torch.tensor(1000.0))
    assert [event["event"] for event in life.between(12)] == ["frozen"]


def test_an_empty_slot_stays_empty_under_every_optimizer() -> None:
    """Neither momentum nor decay nor an orthogonalised step wakes what has died."""
    for kind in ("adamw", "muon", "lion"):
        training = trainer(living(train={"optimizer": {"kind": kind}}, every=100))
        training.run(3)
        (colony,) = life_of(training).colonies
        census = colony.census(colony.vitals.rows(), torch.zeros(4, 5))
        colony.bury([0], census, 3, "cull")
        training.run(6)
        assert (colony.pool.gain != 0.0).tolist() == [False, True, True, False], kind


@pytest.mark.parametrize("of", OF.values(), ids=OF)
def test_the_optimizer_forgets_who_dies(of: Any) -> None:
    """Whatever it keeps of a slot is zero then, also where rules keep different things of a slot's weights."""
    training = trainer(living({"of": of}, train={"optimizer": {"kind": "muon"}}, every=100))
    training.run(3)
    (colony,) = life_of(training).colonies
    states = {path: training.optimizer.states[f"{colony.path}.{path}"] for path, _ in colony.pool.named_parameters()}
    colony.bury([0], colony.census(colony.vitals.rows(), torch.zeros(4, 5)), 3, "cull")
    for name in ("momentum_buffer", "exp_avg", "exp_avg_sq"):
        held = {path: state[name] for path, state in states.items() if name in state}
        assert not any(tensor.any() for tensor in colony.pool.share(held, 0).values())
        assert all(tensor.any() for tensor in colony.pool.share(held, 1).values())


def test_who_has_just_died_leaves_its_weights_as_they_are() -> None:
    """A newborn of an elite that died at the same look has that one's own weights, not those of its genome."""
    training = trainer(living(mutation=0.0, gain=1.0))
    training.run(3)
    (colony,) = life_of(training).colonies
    census = colony.census(colony.vitals.rows(), torch.zeros(4, 5))
    colony.remember(census)
    assert colony.elites is not None
    (elite,) = colony.elites.archive.elites()  # all lie at the same place
    slot = colony.names.index(str(elite.id))
    own = {path: weight.clone() for path, weight in colony._share(slot).items()}
    colony.bury([slot], census, 3, "cull")
    (birth,) = colony.breed(census, 3, 1e9, Stream(0))
    assert birth["parent"] == elite.id
    torch.testing.assert_close(colony._share(birth["slot"]), own, rtol=0, atol=0)


def test_a_search_tells_of_lives(tmp_path: Path) -> None:
    """A trial's scores, which the journal keeps, count births and deaths; its lives are kept too."""
    (tmp_path / "words.txt").write_bytes(b"the pool lives and dies " * 400)
    made = living(train={"task": {"kind": "bytes", "corpus": "words.txt"}})
    job = TrialJob(to_yaml(made), str(tmp_path), budget=Budget(256, 128, 128), tolerance=None)
    found = evaluate(job)
    assert found.scores["births"] == sum(lived.born > 0 for lived in found.lives) > 0
    assert {"deaths", "pool_size", "archive_coverage"} <= found.scores.keys()
    assert isinstance(trainer(made).task, BytesTask)


FLIPS: dict[str, tuple[Any, Any]] = {
    "every": (2, 4),
    "cull_every": (4, 8),
    "warmup": (2, 4),
    "gentle": (6, 20),
    "least": (1, 4),
    "most": (3, None),
    "cull": (0.0, 0.5),
    "cooling": ({"kind": "linear", "start": 0.01}, {"kind": "linear", "start": 10.0}),
    "mutation": (0.1, 0.3),
    "gain": (0.1, 0.5),
    "cells": (0, 16),
    "aim": ("smell", "any"),
    "places": ("measured", "drawn"),
    "budget_mb": (1e-6, None),
    "worth": ({"task": 0.0}, {"efficiency": 0.0}),
}
"""Two values for each field of a life; `freeze` and `thaw` are flipped above, where a loss explodes."""


def test_every_field_of_a_life_has_a_flip() -> None:
    """The flips name all fields."""
    assert set(spec_fields(AnnealedLifeSpec)) == {*FLIPS, "freeze", "thaw"}


@pytest.mark.slow
@pytest.mark.parametrize("field", FLIPS)
def test_every_field_of_a_life_counts(field: str) -> None:
    """Changing one field of a life changes who lives, and with it the weights."""
    one, two = (trainer(living(**{field: value})) for value in FLIPS[field])
    assert run(one) != run(two)
    weights = [[p.detach() for p in training.model.parameters()] for training in (one, two)]
    assert not all(torch.equal(*pair) for pair in zip(*weights, strict=True))
