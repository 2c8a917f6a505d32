"""Costs that are kept in their order are in the order of costs that are sorted."""

from __future__ import annotations

from math import inf, isnan, nan

from hypothesis import given
from hypothesis import strategies as st

from evo.dsl.ranking import Ranking

COSTS = st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from([0.5, 1.0, 2.0, inf, nan])), max_size=30)


@given(COSTS, COSTS)
def test_the_order_is_kept(first: list[tuple[str, float]], further: list[tuple[str, float]]) -> None:
    """Whatever is set, also again, and in copies, which are their own: less first, NaN last, equals by id."""
    original = Ranking(dict(first))
    kept = Ranking(original)
    for id, cost in further:
        kept[id] = cost
    for found, costs in ((original, dict(first)), (kept, dict(first) | dict(further))):
        assert list(found) == list(costs)
        ranked = sorted(costs, key=lambda id: (isnan(costs[id]), 0.0 if isnan(costs[id]) else costs[id], id))
        assert [found.best(count) for count in range(9)] == [ranked[:count] for count in range(9)]
