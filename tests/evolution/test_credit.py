"""What classes of operators brought, read from a journal, and what a search makes of it."""

from __future__ import annotations

import pytest
from searches import seed_document, settings
from test_emitters import made_up

from evo.base.streams import Stream
from evo.dsl.operators import FixedOperators, OperatorsSpec, QLearningOperators
from evo.dsl.selections import ParetoSelection
from evo.evolution.breeders import ArchiveBreeders
from evo.evolution.credit import FAMILIES, history, odds, usual_shares
from evo.evolution.documents import plan_of
from evo.evolution.emitters.variation.spec import MutationSpec
from evo.evolution.journal import Journal
from evo.evolution.operators import OPERATORS
from evo.evolution.search import Search


def searched(operators: OperatorsSpec) -> Search:
    """A finished search whose elites are mutated only, parents picked by Pareto rank."""
    emitters = (MutationSpec(selection=ParetoSelection()),)
    own = settings(seed_document(), generations=3, population=4, cells=4, emitters=emitters, operators=operators)
    search = Search(own, Journal(":memory:"))
    while trials := search.ask():
        search.tell({trial: made_up(trial) for trial in trials})
    return search


@pytest.fixture(scope="module")
def finished() -> Search:
    """One with the usual operators."""
    return searched(FixedOperators())


def test_history_is_what_the_archive_says(finished: Search) -> None:
    """Every child is there with the classes of its operators and of its parent's last, and with what it brought."""
    journal = finished.journal
    made, children = history(journal), [c for c in journal.candidates() if c.generation]
    assert [row.families for row in made] == [tuple(FAMILIES[name] for name in c.operators) for c in children]
    assert {row.before for row in made} > {""}
    placed = list(journal.placements("result"))
    assert placed == [p for p in journal.placements() if p.archive == "result"] != list(journal.placements())
    entered = {p.trial.candidate: p.value for p in placed if p.status != "rejected"}
    assert len(entered) < len(placed)
    for row, child in zip(made, children, strict=True):
        assert row.gain == max(0.0, entered.get(child.id, 0.0))


def test_shares_of_classes_become_odds(finished: Search) -> None:
    """Usual shares leave the operators as they are; a class that goes first keeps the order within it."""
    usual, seed = usual_shares(), finished.journal.candidates(0)[0]
    assert sum(usual.values()) == pytest.approx(1.0)
    assert odds(FixedOperators(), [], seed, Stream(0)) is OPERATORS
    learned = odds(QLearningOperators(floor=0.5), [], seed, Stream(0))
    assert sum(share for _, share in learned) == pytest.approx(sum(share for _, share in OPERATORS))
    grown = {operator.name: share for operator, share in learned}
    assert grown["number"] / grown["choice"] == pytest.approx(0.24 / 0.16)


@pytest.mark.slow
def test_a_search_learns_the_same_again() -> None:
    """Other choices give other children, and the same choice the same."""
    texts = [
        [c.document for c in searched(spec).journal.candidates()]
        for spec in (QLearningOperators(), QLearningOperators(), FixedOperators())
    ]
    assert texts[0] == texts[1] != texts[2]


def test_costs_of_elites_are_their_plans(finished: Search) -> None:
    """Each elite has its score and the costs of its plan, the seed's among them."""
    breeders = ArchiveBreeders(finished.archives.working, finished.journal)
    assert len(breeders.costs) == len(breeders.objectives)
    for costs in breeders.costs:
        assert costs.keys() == {"score", "flops", "cache", "parameters", "depth"}
        assert 1 <= costs["score"] <= 2
        assert costs["depth"] >= 1
    plans = [plan_of(own.document) for own in finished.journal.candidates()]
    known = {(plan.flops_per_token, plan.parameters) for plan in plans}
    assert {(costs["flops"], costs["parameters"]) for costs in breeders.costs} <= known
