"""What classes of operators brought so far, and how often each operator is tried because of it."""

from __future__ import annotations

from collections.abc import Mapping

from evo.base.streams import Stream
from evo.dsl.operators import Made, OperatorsSpec
from evo.evolution.breeders import gains_of
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


def last_family(candidate: Candidate) -> str:
    """The class of the last operator that made a candidate; empty where no mutation did."""
    return FAMILIES.get(candidate.operators[-1], "") if candidate.operators else ""


def history(journal: Journal) -> list[Made]:
    """Every child of mutations, in the order in which they were made; those that failed brought nothing."""
    gains, candidates = gains_of(journal), {candidate.id: candidate for candidate in journal.candidates()}
    found = list[Made]()
    for candidate in candidates.values():
        families = tuple(FAMILIES[name] for name in candidate.operators if name in FAMILIES)
        if families:
            gain = max(0.0, gains.get(candidate.id, 0.0))
            found.append(Made(families, last_family(candidates[candidate.parents[0]]), gain))
    return found


def odds(spec: OperatorsSpec, made: list[Made], parent: Candidate, stream: Stream) -> Odds:
    """The operators for one child of a parent, with how often each is tried first."""
    usual = usual_shares()
    shares: Mapping[str, float] = spec.shares(usual, made, last_family(parent), stream)
    if shares is usual:
        return OPERATORS
    return tuple((operator, share * shares[operator.family] / usual[operator.family]) for operator, share in OPERATORS)
