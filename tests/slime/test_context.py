"""Contexts, tubes, placement: laws and meanings."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.slime.comonad import (
    Context,
    Neighbour,
    attention_coherence,
    behavioural_divergence,
    gradient_rank,
    relative_fitness,
)
from evo.slime.observability import MetricsCollector
from evo.slime.placement import device_of, placed
from evo.slime.tubes import Tubes


@st.composite
def contexts(draw: st.DrawFn) -> Context[int]:
    """Some numbers at some places."""
    values = draw(st.lists(st.integers(-9, 9), min_size=1, max_size=5))
    places = tuple((float(draw(st.integers(0, 3))), float(draw(st.integers(0, 3)))) for _ in values)
    return Context(tuple(values), places, draw(st.integers(0, len(values) - 1)))


def ask(view: Context[int]) -> int:
    """A question that needs the whole context."""
    return 100 * view.extract() + sum((view.focus + 1) * value for value in view.nearest(2))


@settings(max_examples=30)
@given(contexts())
def test_the_laws_of_a_comonad(w: Context[int]) -> None:
    """extract . duplicate = id; map extract . duplicate = id; duplicate twice is the same either way."""
    assert w.duplicate().extract() == w
    assert w.duplicate().map(lambda view: view.extract()) == w
    assert w.duplicate().duplicate() == w.duplicate().map(lambda view: view.duplicate())


@settings(max_examples=30)
@given(contexts())
def test_extend_by_the_laws(w: Context[int]) -> None:
    """extend extract = id; extract . extend f = f; extend f . extend g = extend (f . extend g)."""
    assert w.extend(lambda view: view.extract()) == w
    assert w.extend(ask).extract() == ask(w)
    assert w.extend(ask).extend(ask) == w.extend(lambda view: ask(view.extend(ask)))


def test_what_is_relative_is_read_from_the_context() -> None:
    """Fitness in deviations, behaviour against the mean, gradients by rank, patterns by cosine."""
    places = ((0.0,), (1.0,), (2.0,))
    values = tuple(
        Neighbour(fitness, gradient, place, pattern)
        for fitness, gradient, place, pattern in zip(
            (0.9, 0.2, 0.4), (1.0, 2.0, 0.5), places, ((1.0, 0.0), (1.0, 0.0), (0.0, 1.0)), strict=True
        )
    )
    context = Context(values, places, 0)
    assert relative_fitness(context) == pytest.approx(6.0)
    assert behavioural_divergence(context).tolist() == [-1.5]
    assert gradient_rank(context) == 0.5
    assert attention_coherence(context) == pytest.approx(0.5)
    alone = Context(values[:1], places[:1], 0)
    assert (relative_fitness(alone), gradient_rank(alone), attention_coherence(alone)) == (0.0, 0.5, 0.0)
    with pytest.raises(ValueError, match="in focus"):
        Context(values, places, 3)


def test_tubes_fade() -> None:
    """The mean of what flowed, each by its weight and by decay to the power of its age; storing changes no old tube."""
    tubes = Tubes(0.5)
    assert tubes.recall() is None
    one = tubes.store(torch.tensor([1.0]), 2.0)
    two = one.store(torch.tensor([4.0]))
    assert [float(t.recall()) for t in (one, two)] == pytest.approx([1.0, (1.0 * 1.0 + 4.0) / 2.0])  # type: ignore[arg-type]
    assert two.clear().recall() is None
    for wrong in (lambda: Tubes(2.0), lambda: one.store(torch.zeros(2)), lambda: one.store(torch.zeros(1), 0.0)):
        with pytest.raises(ValueError, match=r"decay|hold|weight"):
            wrong()


def test_placement_is_the_same_everywhere() -> None:
    """A cell has one device in every process; all slots are placed once; without a device they spread over the rest."""
    cells = dict(enumerate(range(0, 64, 2)))
    three = placed(cells, ["a", "b", "c"])
    assert sorted(slot for slots in three.values() for slot in slots) == sorted(cells)
    assert all(three.values())
    assert set(placed(cells, ["a", "c"])) == {"a", "c"}
    assert "".join(device_of(cell, ["a", "b", "c"]) for cell in range(12)) == "bccbbcbbbbbb"
    with pytest.raises(ValueError, match="no device"):
        device_of(1, [])


def test_spans_and_series_are_recorded() -> None:
    """A span is as long as the clock says, also where what it holds fails; names are made fit for Prometheus."""
    ticks = iter((1.0, 3.5, 10.0, 11.0))
    metrics = MetricsCollector(lambda: next(ticks))
    with metrics.span("step"):
        pass
    with pytest.raises(KeyError), metrics.span("step"):
        raise KeyError
    metrics.record("pool.size", 3)
    assert metrics.get("step_seconds") == [2.5, 1.0]
    assert metrics.get("nothing") == []
    assert metrics.to_prometheus().splitlines()[1] == "evo_pool_size 3.0"
