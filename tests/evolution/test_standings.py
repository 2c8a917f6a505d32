"""Standings that are ranked as they come are those of all that are looked through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evo.evolution.standings import Standing, Standings
from evo.evolution.trial import WeightsRef

NOTED = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 2), st.sampled_from([-1.0, 0.0, 0.5]), st.integers(0, 2))
)


@given(NOTED)
def test_ranks(noted: list[tuple[str, int, float, int]]) -> None:
    """The highest rung, then the highest objective, then who was placed first: in all, and by the latest cell."""
    standings, plain = Standings(), dict[str, tuple[Standing, int]]()
    for id, rung, objective, cell in noted:
        own = Standing(WeightsRef(id, rung), objective, ())
        standings.note(own, cell)
        plain[id] = own, cell
    assert list(standings.items()) == [(id, own) for id, (own, _) in plain.items()]
    ranked = sorted(plain.values(), key=lambda row: (-row[0].trial.rung, -row[0].objective))  # stable
    assert standings.leading(4) == [own for own, _ in ranked[:4]]
    assert {id: standings.cell(id) for id in standings} == {id: cell for id, (_, cell) in plain.items()}
    for cell in range(4):
        assert standings.first_of(cell) == next((own for own, its in ranked if its == cell), None)
