"""Emitters: each makes new, affordable children by its own rule, the same ones again."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from searches import seed_document, settings

from evo.dsl.canonical import to_yaml
from evo.dsl.document import parse
from evo.dsl.index import kind_class, kinds
from evo.dsl.selections import UniformSelection
from evo.dsl.tree import found_at
from evo.evolution.candidate import Candidate
from evo.evolution.documents import plan_of
from evo.evolution.journal import Journal
from evo.evolution.operators.growth import keeps
from evo.evolution.search import Search
from evo.evolution.trial import Evaluation, Trial

GENERATIONS, POPULATION = 3, 3
SEEDS = seed_document(), seed_document(seed=1)


def made_up(trial: Trial) -> Evaluation:
    """An evaluation that the candidate's hash makes up; one in eight fails."""
    numbers = [int(trial.candidate.hash[place : place + 4], 16) / 0xFFFF for place in range(0, 24, 4)]
    if trial.candidate.generation and numbers[5] < 1 / 8:
        return Evaluation("diverged", "made up")
    scores = {"bits_per_byte": 1 + numbers[0], "gradient_evenness": numbers[1]}
    return Evaluation(scores=scores, measures=tuple(numbers[:5]))


@cache
def searched(kind: str, seed: int = 0, **fields: Any) -> tuple[list[Candidate], dict[str, float]]:
    """The candidates of a search with one emitter, and the objectives of those that have one."""
    spec = kind_class("emitter", kind)(**fields)
    own = settings(*SEEDS, generations=GENERATIONS, population=POPULATION, cells=16, emitters=(spec,), seed=seed)
    journal = Journal(":memory:")
    search = Search(own, journal)
    while trials := search.ask():
        search.tell({trial: made_up(trial) for trial in trials})
    terms = {trial.candidate.id: journal.terms(trial.ref) for trial in journal.trials()}
    return journal.candidates(), {id: found.objective for id, found in terms.items() if found is not None}


def children(kind: str, **fields: Any) -> list[Candidate]:
    """Those after the seeds."""
    return [candidate for candidate in searched(kind, **fields)[0] if candidate.generation]


@pytest.mark.parametrize("kind", sorted(kinds("emitter")))
def test_children_are_new_and_affordable(kind: str) -> None:
    """Slots are filled with content that was not there, within the cost that the search allows, of known parents."""
    candidates, _ = searched(kind)
    assert len(candidates) >= 2 + 0.7 * GENERATIONS * POPULATION
    assert len({candidate.hash for candidate in candidates}) == len(candidates)
    costs = [plan_of(text).flops_per_token for text in SEEDS]
    ids = {candidate.id: candidate.generation for candidate in candidates}
    for child in children(kind):
        assert min(costs) / 2 <= plan_of(child.document).flops_per_token <= 2 * max(costs)
        assert child.operators
        assert all(ids[parent] < child.generation for parent in child.parents)


@pytest.mark.parametrize("kind", sorted(kinds("emitter")))
def test_the_same_seed_makes_the_same_children(kind: str) -> None:
    """A search repeats to the byte."""
    assert searched.__wrapped__(kind) == searched(kind)


@pytest.mark.parametrize("kind", ["mutation", "crossover"])
def test_thrifty_children_cost_no_more_than_their_parent(kind: str) -> None:
    """All of them where the share is one, not all where it is zero."""

    def costlier(thrift: float) -> int:
        candidates = {candidate.id: candidate for candidate in searched(kind, thrift=thrift)[0]}
        pairs = [(child, candidates[child.parents[0]]) for child in candidates.values() if child.parents]
        assert pairs
        return sum(plan_of(a.document).flops_per_token > plan_of(b.document).flops_per_token for a, b in pairs)

    assert costlier(1.0) == 0
    assert costlier(0.0) > 0


def test_random_search_starts_from_seeds_only() -> None:
    """Parents are seeds, both of them, and one child has many mutations."""
    found = children("random")
    assert {child.parents for child in found} == {("0000/00",), ("0000/01",)}
    assert max(len(child.operators) for child in found) > 3
    assert max(len(child.operators) for child in children("random", mutations=1)) == 1


def test_the_old_die() -> None:
    """Once enough are scored, each parent is one of the youngest, and the best of them where all are drawn."""
    candidates, objectives = searched("aging", size=3, sample=64)
    for child in (candidate for candidate in candidates if candidate.generation > 1):
        before = [c.id for c in candidates if c.generation < child.generation and c.id in objectives]
        if len(before) >= 3:
            assert child.parents == (max(before[-3:], key=objectives.__getitem__),)
            assert len(child.operators) == 1
    assert any(child.parents[0] > "0001" for child in children("aging", size=3, sample=64))


def test_one_parent_or_two() -> None:
    """Mutation has one parent, crossover two where two elites are picked."""
    assert {len(child.parents) for child in children("mutation")} == {1}
    crossed = [child for child in children("crossover", selection=UniformSelection()) if child.generation > 1]
    assert any(len(child.parents) == 2 for child in crossed)


def test_immigrants_descend_from_nobody() -> None:
    """Their stages are drawn, not a seed's; what is learned stays."""
    found = children("immigrants")
    assert {child.operators[0] for child in found} == {"fresh"}
    assert {child.parents[0] for child in found} <= {"0000/00", "0000/01"}
    assert len({child.document.partition("stages:")[2].partition("train:")[0] for child in found}) > len(found) / 2
    assert all("name: body" not in child.document for child in found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["variation", "random", "immigrants"])
def test_what_is_frozen_keeps_still(kind: str) -> None:
    """No child has another training or another mixer in its first stage than a seed; other parts move."""
    spec = kind_class("emitter", kind)()
    paths = ("train", "organism.width") if kind == "immigrants" else ("train", "organism.stages.body.mix")
    own = settings(*SEEDS, generations=2, population=3, cells=16, emitters=(spec,), freeze=paths)
    journal = Journal(":memory:")
    search = Search(own, journal)
    while trials := search.ask():
        search.tell({trial: made_up(trial) for trial in trials})
    documents = [parse(candidate.document).document for candidate in journal.candidates()]
    assert len(documents) > 4
    for path in paths:
        steps = tuple(path.split("."))
        assert all(found_at(d, steps) in [found_at(seed, steps) for seed in documents[:2]] for d in documents)
    assert len({to_yaml(d) for d in documents}) > 3


def test_what_breeds_depends_on_the_selection() -> None:
    """Emitters that differ in their selection only have other children."""
    documents = {kind: [c.document for c in children(kind)] for kind in ("variation", "novelty", "archive_improvement")}
    assert len({tuple(found) for found in documents.values()}) == 3


def test_growth_keeps_what_parents_compute() -> None:
    """Every child of the growth emitter computes what its parent does, so a search that inherits loses nothing."""
    by_id = {candidate.id: plan_of(candidate.document) for candidate in searched("growth")[0]}
    for child in children("growth"):
        assert keeps(by_id[child.parents[0]], by_id[child.id])
        assert by_id[child.id].parameters > by_id[child.parents[0]].parameters
