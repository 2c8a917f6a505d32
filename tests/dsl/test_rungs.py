"""Fidelities with rungs: who climbs is as published, whatever order results came in, and nobody climbs twice."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo.dsl.rungs import AshaFidelity, HurdlesFidelity, HyperbandFidelity, RungsFidelity, best

IDS = [f"0001/{n:02d}" for n in range(40)]
Cost = st.floats(0, 10) | st.just(inf) | st.just(nan)


def test_rungs_are_a_factor_apart() -> None:
    """The last rung has the whole budget, each below it 1 / eta of the next."""
    assert AshaFidelity(eta=3, rungs=3).shares == pytest.approx((1 / 9, 1 / 3, 1))
    assert AshaFidelity(eta=2, rungs=2).shares == (0.5, 1.0)


def test_the_best_share_climbs_from_the_highest_rung_first() -> None:
    """Of 7 the best floor(7 / 3) = 2 climb; those that did stay up; a rung above is asked before one below."""
    first = dict(zip(IDS, [3.0, 1.0, 2.0, 5.0, 4.0, 6.0, 7.0], strict=False))
    asha = AshaFidelity(eta=3, rungs=3)
    assert asha.promote([first], ()) == [(IDS[1], 1), (IDS[2], 1)]
    assert asha.promote([first, {IDS[1]: 0.9}], ()) == [(IDS[2], 1)]
    second = {IDS[1]: 0.9, IDS[2]: 0.8, IDS[0]: 0.7}
    assert asha.promote([first, second], ()) == [(IDS[0], 2)]
    assert asha.promote([{**first, IDS[7]: 0.1, IDS[8]: 0.2}, second], ()) == [(IDS[0], 2), (IDS[7], 1), (IDS[8], 1)]
    assert asha.promote([first, second, {IDS[0]: 0.5}], ()) == []


def test_ties_go_by_id_and_nan_is_worst() -> None:
    """Equal costs climb in the order of their ids; a failure or NaN never climbs, though room be left."""
    assert best({"b": 1.0, "a": 1.0, "c": 0.5, "d": nan}, 2) == ["c", "a"]
    assert AshaFidelity(eta=2, rungs=2).promote([{"a": nan, "b": inf, "c": nan, "d": 9.0}], ()) == [("d", 1)]
    assert AshaFidelity(eta=2, rungs=2).promote([{"a": nan, "b": inf}], ()) == []


@pytest.mark.parametrize("fidelity", [AshaFidelity(eta=2), HyperbandFidelity(eta=3), HurdlesFidelity(eta=2)])
@given(costs=st.lists(Cost, max_size=30), climbed=st.sets(st.sampled_from(IDS)))
def test_laws_of_promotion(fidelity: RungsFidelity, costs: list[float], climbed: set[str]) -> None:
    """Nobody climbs twice, past a rung or after a failure; the same table gives the same answer in any order."""
    first = dict(zip(IDS, costs, strict=False))
    second = {id: first[id] / 2 for id in sorted(climbed & first.keys()) if first[id] < inf}
    pairs = fidelity.promote([first, second], frozenset(first))
    assert len(set(pairs)) == len(pairs)
    for id, rung in pairs:
        assert (first, second)[rung - 1][id] < inf
        assert not (rung == 1 and id in second)
    turned = [dict(reversed(table.items())) for table in (first, second)]
    assert sorted(fidelity.promote(turned, frozenset(first))) == sorted(pairs)


def test_brackets_are_dealt_out_as_published() -> None:
    """With R = 9 and eta = 3 Hyperband's brackets have 9, 5 and 3 members, which begin at rungs 0, 1 and 2."""
    hyperband = HyperbandFidelity(eta=3, rungs=3)
    dealt = [hyperband.entry(number) for number in range(34)]
    assert dealt == ([0] * 9 + [1] * 5 + [2] * 3) * 2


def test_brackets_do_not_meet() -> None:
    """Who began at rung 1 climbs by comparison with others that did, not with those that climbed there."""
    first = {"a": 1.0, "b": 2.0, "c": 3.0}
    second = {"a": 0.1, "p": 5.0, "q": 6.0, "r": 7.0}
    hyperband = HyperbandFidelity(eta=3, rungs=3)
    assert hyperband.promote([first, second], ()) == [("p", 2)]
    assert AshaFidelity(eta=3, rungs=3).promote([first, second], ()) == [("a", 2)]


def test_the_hurdle_is_the_mean_of_the_population() -> None:
    """Better than the mean of the elites that were at the rung climbs; without such elites nobody does."""
    costs = {"a": 1.0, "b": 2.0, "c": 3.0, "new": 1.9, "slow": 2.0}
    hurdles = HurdlesFidelity(eta=2, rungs=2)
    assert hurdles.promote([costs, {"a": 0.5}], {"a", "b", "c"}) == [("new", 1)]
    assert hurdles.promote([costs], {"c"}) == [("a", 1), ("new", 1), ("b", 1), ("slow", 1)]
    assert hurdles.promote([costs], {"elsewhere"}) == []
