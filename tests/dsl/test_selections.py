"""Selections: which elite breeds, by its objective, its terms, its place, or what became of its children."""

import math
from collections import Counter
from dataclasses import dataclass, field

import pytest

from evo.base.streams import Stream
from evo.dsl.index import kind_class, kinds
from evo.dsl.selections import (
    CuriositySelection,
    ImprovementSelection,
    LexicaseSelection,
    NoveltySelection,
    ParetoSelection,
    SelectionSpec,
    TournamentSelection,
    crowding,
    pareto_ranks,
)

DRAWS = 400


@dataclass
class Elites:
    """Some elites written out."""

    objectives: list[float] = field(default_factory=lambda: [0.1, 0.9, 0.5])
    measures: list[tuple[float, ...]] = field(default_factory=lambda: [(0.0, 0.0), (0.1, 0.0), (1.0, 1.0)])
    terms: list[tuple[float, ...]] = field(default_factory=lambda: [(0.1, 0.1), (0.9, 0.2), (0.2, 0.9)])
    gains: list[tuple[float, ...]] = field(default_factory=lambda: [(), (0.2, 0.0), (0.0, 0.0, 0.0)])
    costs: list[dict[str, float]] = field(
        default_factory=lambda: [dict.fromkeys(("score", "flops", "cache", "parameters", "depth"), 1.0)] * 3
    )


def picked(selection: SelectionSpec, elites: Elites) -> Counter[int]:
    """How often each is picked."""
    return Counter(selection.pick(elites, Stream(draw).child("parent")) for draw in range(DRAWS))


@pytest.mark.parametrize("kind", kinds("selection"))
def test_a_pick_is_one_of_them_and_repeats(kind: str) -> None:
    """Every kind picks an index, the same one again, and the only one of one."""
    selection = kind_class("selection", kind)()
    assert isinstance(selection, SelectionSpec)
    found = picked(selection, Elites())
    assert set(found) <= {0, 1, 2}
    assert found == picked(selection, Elites())
    alone = Elites([0.5], [(0.5, 0.5)], [(0.5, 0.5)], [()], Elites().costs[:1])
    assert set(picked(selection, alone)) == {0}


def test_a_tournament_prefers_the_better() -> None:
    """Of two drawn with replacement the best of three wins with 5/9, the worst with 1/9; of one all are alike."""
    found = picked(TournamentSelection(size=2), Elites())
    assert found[1] == pytest.approx(DRAWS * 5 / 9, rel=0.2)
    assert found[0] == pytest.approx(DRAWS / 9, rel=0.4)
    assert min(picked(TournamentSelection(size=1), Elites()).values()) > DRAWS / 5


def test_curiosity_goes_where_children_entered() -> None:
    """One child in and one out leaves 1.5, three out 0.05, none 1."""
    found = picked(CuriositySelection(), Elites())
    assert found[1] == pytest.approx(DRAWS * 1.5 / 2.55, rel=0.2)
    assert found[2] < DRAWS * 0.06


def test_lexicase_keeps_specialists_and_drops_the_mediocre() -> None:
    """Who is best in one term is picked, whoever is worst in all never; within the deviation all pass."""
    found = picked(LexicaseSelection(), Elites())
    assert found[0] == 0
    assert min(found[1], found[2]) > DRAWS / 4
    equal = Elites(terms=[(0.5, 0.5)] * 3)
    assert min(picked(LexicaseSelection(), equal).values()) > DRAWS / 5


def test_novelty_goes_far_away() -> None:
    """The one that stands alone is picked most; where all stand at one point, anyone."""
    found = picked(NoveltySelection(neighbours=1), Elites())
    assert found[2] > 0.8 * DRAWS
    same = Elites(measures=[(0.5, 0.5)] * 3)
    assert min(picked(NoveltySelection(), same).values()) > DRAWS / 5


def test_improvement_tries_everyone_and_then_what_pays() -> None:
    """Whoever has no child comes first; then the one whose children gained most, unless others had few."""
    selection = ImprovementSelection(exploration=0.01)
    assert set(picked(selection, Elites())) == {0}
    gains: list[tuple[float, ...]] = [(0.0,), (0.2, 0.0), (0.05, 0.05, 0.0)]
    assert set(picked(selection, Elites(gains=gains))) == {1}
    assert set(picked(ImprovementSelection(exploration=5.0), Elites(gains=gains))) == {0}


def test_pareto_prefers_fronts_then_room() -> None:
    """Who is beaten in every cost loses to who beats it; of one front the ends go first, then the emptiest place."""
    points = [(0.0, 4.0), (1.0, 3.0), (1.1, 2.9), (4.0, 0.0), (2.0, 4.0), (5.0, 5.0)]
    assert pareto_ranks(points) == [0, 0, 0, 0, 1, 2]
    room = crowding(points[:4])
    assert room[0] == room[3] == math.inf
    assert room[1] == pytest.approx(1.1 / 4 + 1.1 / 4)
    assert room[2] > room[1]
    assert pareto_ranks([(1.0, 1.0), (1.0, 1.0)]) == [0, 0]
    costs = [{"score": one, "flops": two} for one, two in points]
    found = picked(ParetoSelection(over=("score", "flops")), Elites([0.5] * 6, costs=costs))
    assert found[0] > found[2] > found[1] > found[4] > found[5]
    assert found[5] == pytest.approx(DRAWS / 36, abs=DRAWS / 20)
