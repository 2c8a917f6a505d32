"""What lives keep within: a budget, the memory that there is, a pool that is empty."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from living import kinds, life_of, living, run, trainer


def test_a_budget_is_kept() -> None:
    """Elites go first, then the worst pseudopods; one always stays, and nobody is born whom it has no room for."""
    training = trainer(living(budget_mb=1e-6, steps=20))
    events = run(training)
    assert "budget" in {event["cause"] for event in kinds(events, "death")}
    (colony,) = life_of(training).colonies
    assert [event["pool_size"] for event in kinds(events, "look") if event["step"] >= 4] == [1] * 9
    assert colony.elites is not None


def test_a_budget_leaves_room_for_births() -> None:
    """Elites take what the living leave over, and give way to a newborn."""
    one = life_of(trainer(living())).colonies[0].nbytes(1)
    training = trainer(living(steps=40, budget_mb=3.5 * one / 1e6))
    events = run(training)
    (colony,) = life_of(training).colonies
    assert max(event["pool_size"] for event in kinds(events, "look") if event["step"] >= 4) == 3
    assert [event for event in kinds(events, "birth") if event["step"] > 8]
    assert colony.nbytes(len(kinds(events, "look")[-1]["alive"])) <= 3.5 * one + colony.elites.nbytes


def test_a_pool_in_which_nobody_lives_stays_empty() -> None:
    """Nothing is born there, as nobody is there to be measured by, and nothing is undefined."""
    training = trainer(living())
    (colony,) = life_of(training).colonies
    with torch.no_grad():
        colony.pool.gain.zero_()
    looks = kinds(run(training), "look")
    assert {(event["pool_size"], event["fitness"]) for event in looks} == {(0, 0.0)}


def test_a_step_without_memory_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst pseudopod is let go of, the step is taken, and the event tells why; a second failure raises."""
    training = trainer(living())
    plain, failures = training.losses, [False, True, *[False] * 9, True, True]

    def losses(step: int) -> Any:
        if failures.pop(0):
            raise torch.OutOfMemoryError("no memory")
        return plain(step)

    monkeypatch.setattr(training, "losses", losses)
    deaths = kinds(run(training, 9), "death")
    assert deaths[0]["cause"] == "memory"
    assert deaths[0]["step"] == 1
    failures[:] = [True, True]
    with pytest.raises(torch.OutOfMemoryError):
        training.run()
