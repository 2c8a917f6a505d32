"""Choices of operators: which class goes first, by what classes brought."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from evo.base.streams import Stream
from evo.dsl.index import kind_class, kinds
from evo.dsl.operators import BanditOperators, FixedOperators, Made, OperatorsSpec, QLearningOperators

USUAL = {"tune": 0.5, "replace": 0.3, "grow": 0.2}


def shares(spec: OperatorsSpec, history: list[Made], before: str = "", draw: int = 0) -> dict[str, float]:
    """The shares for one child."""
    return dict(spec.shares(USUAL, history, before, Stream(draw).child("operators")))


def firsts(spec: OperatorsSpec, history: list[Made], before: str = "") -> Counter[str]:
    """How often each class has the largest share, where nothing is drawn as usual."""
    found = (shares(spec, history, before, draw) for draw in range(200))
    return Counter(max(own, key=lambda name: own[name]) for own in found)


@pytest.mark.parametrize("kind", kinds("operators"))
def test_shares_are_shares_and_repeat(kind: str) -> None:
    """Every kind shares one among the classes, gives none of them up, and gives the same again."""
    spec = kind_class("operators", kind)()
    assert isinstance(spec, OperatorsSpec)
    for history in ([], [Made(("tune", "grow"), "", 0.3), Made(("grow",), "tune", 0.0)]):
        found = shares(spec, history)
        assert found.keys() == USUAL.keys()
        assert sum(found.values()) == pytest.approx(1.0)
        assert min(found.values()) > 0
        assert found == shares(spec, history)
    assert shares(FixedOperators(), []) == USUAL


def test_a_bandit_finds_the_arm_that_pays() -> None:
    """Of three classes that pay 0.2, 0.5 and 0.2 with noise, 80 % of late children get the one that pays; early on all
    are tried."""
    rng, history, spec = Random(0), list[Made](), BanditOperators(floor=0.0)
    chosen = list[str]()
    for draw in range(300):
        own = shares(spec, history, draw=draw)
        name = max(own, key=lambda name: own[name])
        chosen.append(name)
        history.append(Made((name,), "", (0.5 if name == "replace" else 0.2) + rng.gauss(0, 0.1)))
    assert set(chosen[:30]) == set(USUAL)
    assert Counter(chosen[150:])["replace"] > 0.8 * 150


def test_q_learning_values_what_comes_after() -> None:
    """Growing brings nothing at once, but tuning what grew does: after a seed it is put first, and tuning after it."""
    rng, history = Random(0), list[Made]()
    before = ""
    for _ in range(600):
        name = rng.choice(list(USUAL))
        gain = 1.0 if (before, name) == ("grow", "tune") else 0.1 if name == "replace" else 0.0
        history.append(Made((name,), before, gain))
        before = name if rng.random() < 0.7 else ""
    spec = QLearningOperators(floor=0.0, discount=0.9)
    assert firsts(spec, history)["grow"] == 200
    assert firsts(spec, history, "grow")["tune"] == 200
    values = QLearningOperators(rate=1.0, discount=0.0).values(list(USUAL), history[-1:])
    assert values == {(history[-1].before, history[-1].families[-1]): history[-1].gain}
