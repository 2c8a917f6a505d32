"""What classes of operators brought so far, and how often each operator is tried because of it."""

from __future__ import annotations

from collections.abc import Mapping

from evo.base.streams import Stream
from evo.dsl.operators import Made, OperatorsSpec
from evo.evolution.candidate import Candidate
from evo.evolution.journal import Journal
from evo.evolution.mutate import Odds
from evo.evolution.operators import OPERATORS

FAMILIES = {operator.name: operator.family for operator, _ in OPERATORS}


def usual_shares() -> dict[str, float]:
    """The share that each class of operators has by itself."""
    whole = sum(share for _, share in OPERATORS)
    names = dict.fromkeys(FAMILIES.values())
    return {name: sum(share for own, share in OPERATORS if own.family == name) / whole for name in names}


def last_family(operators: tuple[str, ...]) -> str:
    """The class of the last of the operators that made a candidate; empty where no mutation did."""
    return FAMILIES.get(operators[-1], "") if operators else ""


def history(journal: Journal) -> list[Made]:
    """Every child of mutations, in the order in which they were made; those that failed brought nothing."""
    gains, found, made_by = journal.past.gains(), list[Made](), dict[str, tuple[str, ...]]()
    for id, parents, operators in journal.descent():
        made_by[id] = operators
        families = tuple(FAMILIES[name] for name in operators if name in FAMILIES)
        if families:
            found.append(Made(families, last_family(made_by[parents[0]]), max(0.0, gains.get(id, 0.0))))
    return found


def odds(spec: OperatorsSpec, made: list[Made], parent: Candidate, stream: Stream) -> Odds:
    """The operators for one child of a parent, with how often each is tried first."""
    usual = usual_shares()
    shares: Mapping[str, float] = spec.shares(usual, made, last_family(parent.operators), stream)
    if shares is usual:
        return OPERATORS
    return tuple((operator, share * shares[operator.family] / usual[operator.family]) for operator, share in OPERATORS)
