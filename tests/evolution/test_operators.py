"""Operators: what they propose, and that moved weights come from where they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parents import ATTENTION, PARENTS, document, hybrid, stage

from evo.base.streams import Stream
from evo.compiler.build import build, initial_weights
from evo.compiler.check import check, problems
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_data, to_yaml
from evo.dsl.document import Document, parse
from evo.dsl.spec import Spec
from evo.evolution.inheritance import starting_weights
from evo.evolution.mutate import compose, validated
from evo.evolution.operators import OPERATORS, Operator, Proposal, WeightSources
from evo.evolution.operators.layers import ReplaceMixer
from evo.evolution.operators.stages import Duplicate, Join, Remove, Split, Swap
from evo.evolution.operators.wiring import edges
from strategies import valid_documents

BY_NAME = {operator.name: operator for operator, _ in OPERATORS}


def proposals(operator: Operator, parent: Document, draws: int = 4, seed: int = 0) -> list[Proposal]:
    """What an operator proposes at every site, a few times each."""
    rng = Stream(seed).child(operator.name).numpy()
    found = [operator.propose(parent, site, 1.0, rng) for site in operator.sites(parent) for _ in range(draws)]
    return [proposal for proposal in found if proposal is not None]


def accepted(operator: Operator, parent: Document, **options: Any) -> list[tuple[Document, WeightSources]]:
    """Those proposals that are valid documents."""
    loaded = [(validated(parent, p), p.origins) for p in proposals(operator, parent, **options)]
    return [(found.document, origins) for found, origins in loaded if found is not None]


def mixes(operator: Operator, parent: Document, draws: int) -> list[str | Spec]:
    """The first mixer of the children that an operator makes."""
    children = [validated(parent, proposal) for proposal in proposals(operator, parent, draws)]
    return [child.document.organism.stages[0].mix[0] for child in children if child is not None]  # type: ignore[attr-defined]


def test_odds_are_odds() -> None:
    """Every operator has a name of its own and a share; the shares add up to one."""
    assert len(BY_NAME) == len(OPERATORS)
    assert sum(share for _, share in OPERATORS) == pytest.approx(1.0)


@pytest.mark.parametrize("name", BY_NAME)
def test_every_operator_gives_children(name: str) -> None:
    """Each operator has sites in a hybrid, and some of its proposals there are faultless documents."""
    children = accepted(BY_NAME[name], hybrid(), draws=2)
    assert children
    assert all(not check(parse(to_yaml(child))) for child, _ in children)


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=15)
@given(parent=valid_documents(), seed=st.integers(0, 1_000))
def test_proposals_are_valid_or_rejected(name: str, parent: Document, seed: int) -> None:
    """On any valid document, a proposal is refused or is a document without errors and without a new warning."""
    known = {(problem.code, problem.message) for problem in problems(parent)}
    for child, _ in accepted(BY_NAME[name], parent, draws=1, seed=seed):
        assert to_yaml(parse(to_yaml(child)).document) == to_yaml(child)
        for fault in problems(child):
            assert fault.severity == "warning"
            assert (fault.code, fault.message) in known


def test_a_parent_with_a_warning_has_children() -> None:
    """A warning that the parent has already does not keep it from having children."""
    mix = {"kind": "attention", "heads": 2, "stencil": {"kind": "window", "size": 64}}
    parent = document(stage("body", mix, repeat=2))
    assert [problem.code for problem in problems(parent)] == ["EVO331"]
    assert all(accepted(BY_NAME[name], parent) for name in ("number", "choice", "duplicate"))


WITHOUT_A_CHOICE = {"remove", "duplicate", "swap", "join"}
"""Operators that have nothing to draw once they have a site."""


@pytest.mark.parametrize("name", BY_NAME)
def test_draws_are_the_streams_alone(name: str) -> None:
    """The same stream proposes the same, another one something else where there is a choice."""
    parent = PARENTS["hybrid"]()

    def made(seed: int) -> list[tuple[str, Any]]:
        return [(to_yaml(child), origins) for child, origins in accepted(BY_NAME[name], parent, draws=1, seed=seed)]

    first = made(3)
    assert made(3) == first
    assert any(made(seed) != first for seed in range(4, 8)) or name in WITHOUT_A_CHOICE


def weights_of(parent: Document, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights of a parent, no two of which have an entry in common."""
    plan = resolve(parent.organism)
    generator = torch.Generator().manual_seed(seed)
    return {path: torch.randn(t.shape, generator=generator) for path, t in initial_weights(plan, 0).items()}


def inherited(child: Document, origins: WeightSources, *parents: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a child starts from."""
    return starting_weights(resolve(child.organism), child, list(parents), origins)[0]


def logits(child: Document, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a model with these weights says of some text."""
    tokens = torch.arange(40, 56)[None]
    with torch.no_grad():
        return build(resolve(child.organism), 0, weights=weights)(tokens)


def propose(operator: Operator, parent: Document, site: Any) -> tuple[Document, WeightSources]:
    """The child of the first valid proposal of some draws."""
    rng = np.random.Generator(np.random.Philox(0))
    for _ in range(20):
        proposal = operator.propose(parent, site, 1.0, rng)
        loaded = None if proposal is None else validated(parent, proposal)
        if proposal is not None and loaded is not None:
            return loaded.document, proposal.origins
    raise AssertionError(f"{operator.name} proposes nothing valid")


def test_a_duplicate_starts_from_the_same_weights() -> None:
    """Every weight of the copy is the original's, and whoever read the original reads the copy."""
    parent = hybrid()
    weights = weights_of(parent)
    child, origins = propose(Duplicate(), parent, 0)
    start = inherited(child, origins, weights)
    copies = [path for path in start if path.startswith("stages.lower_2.")]
    assert len(copies) > 10
    for path in copies:
        assert torch.equal(start[path], weights[path.replace("lower_2", "lower")])
    assert edges(child)[2] == ("lower_2",)


def test_swapped_stages_take_their_weights_along() -> None:
    """After a swap every layer weight is the other stage's, and each wiring keeps its own gains."""
    sources = {"from": ["embedding", "a"]}
    parent = document(stage("a", repeat=2), stage("b", {"kind": "convolution"}, **sources))
    weights = weights_of(parent)
    child, origins = propose(Swap(), parent, 0)
    start = inherited(child, origins, weights)
    for path, tensor in start.items():
        there = {"a": path.replace("stages.a.", "stages.b."), "b": path.replace("stages.b.", "stages.a.")}
        name = path.split(".")[1] if path.startswith("stages.") and not path.endswith("merge") else ""
        assert torch.equal(tensor, weights[there.get(name, path)]), path
    back, again = propose(Swap(), child, 0)
    assert to_yaml(back) == to_yaml(parent)
    restored = inherited(back, compose(origins, again), weights)
    assert all(torch.equal(restored[path], weights[path]) for path in weights)


def test_split_stages_keep_their_layers() -> None:
    """Both halves hold the layers they held, but for the mixer that is replaced."""
    parent = document(stage("body", repeat=4))
    weights = weights_of(parent)
    child, origins = propose(Split(), parent, 0)
    one, two = child.organism.stages
    start = inherited(child, origins, weights)
    first = one.repeat  # type: ignore[attr-defined]
    assert first + two.repeat == 4  # type: ignore[attr-defined]
    for i in range(4):
        new = f"stages.body.{i}" if i < first else f"stages.body_2.{i - first}"
        assert torch.equal(start[f"{new}.ffn.down"], weights[f"stages.body.{i}.ffn.down"])


@pytest.mark.parametrize("shared", [False, True])
def test_joined_stages_compute_what_they_did(shared: bool) -> None:
    """Two stages of one kind, joined, are the same function, shared layers repeated."""
    second = stage("b", repeat=3, share=True) if shared else stage("b", repeat=2)
    parent = document(stage("a", repeat=2), second)
    weights = weights_of(parent)
    child, origins = propose(Join(), parent, 0)
    assert len(child.organism.stages) == 1
    start = inherited(child, origins, weights)
    torch.testing.assert_close(logits(child, start), logits(parent, weights))


def test_removing_a_copy_undoes_a_duplicate() -> None:
    """Duplicate, then remove the copy: the parent's document, function and weights."""
    parent = hybrid()
    weights = weights_of(parent)
    doubled, first = propose(Duplicate(), parent, 1)
    child, second = propose(Remove(), doubled, 2)
    assert to_yaml(child) == to_yaml(parent)
    start = inherited(child, compose(first, second), weights)
    assert torch.equal(logits(child, start), logits(parent, weights))


def test_origins_compose_as_the_steps_do() -> None:
    """Inheriting over two mutations at once is inheriting over one after the other, for any two operators."""
    moving = [operator for operator in BY_NAME.values() if operator.name in ("duplicate", "swap", "split", "join")]
    compared = 0
    for parent in (hybrid(), document(stage("a", repeat=3), stage("b", {"kind": "convolution"}, repeat=2))):
        weights = weights_of(parent)
        for one in moving:
            for middle, first in accepted(one, parent, draws=1):
                between = inherited(middle, first, weights)
                for two in moving:
                    for child, second in accepted(two, middle, draws=1):
                        steps = inherited(child, second, between)
                        at_once = inherited(child, compose(first, second), weights)
                        moved = [path for path in steps if came_from(steps[path], weights)]
                        assert all(torch.equal(steps[path], at_once[path]) for path in moved)
                        compared += len(moved)
    assert compared > 2_000


def came_from(tensor: torch.Tensor, weights: dict[str, torch.Tensor]) -> bool:
    """Whether a tensor is one of the parent's."""
    return any(tensor.shape == other.shape and torch.equal(tensor, other) for other in weights.values())


def test_composition_by_hand() -> None:
    """A later source inside an earlier prefix, an earlier prefix inside a later source, and a prefix renamed twice."""
    split = (("stages.b.0.", 0, "stages.a.2."), ("stages.b.1.", 0, "stages.a.3."))
    swap = (("stages.b.", 0, "stages.c."), ("stages.c.", 0, "stages.b."))
    assert compose(split, swap) == (
        ("stages.b.", 0, "stages.c."),
        ("stages.c.", 0, "stages.b."),
        ("stages.c.0.", 0, "stages.a.2."),
        ("stages.c.1.", 0, "stages.a.3."),
    )
    assert compose(swap, (("stages.d.0.", 0, "stages.b.5."),))[0] == ("stages.d.0.", 0, "stages.c.5.")
    assert set(compose(swap, swap)) == {("stages.b.", 0, "stages.b."), ("stages.c.", 0, "stages.c.")}
    assert compose((), swap) == swap == compose(swap, ())


def test_parents_are_left_alone() -> None:
    """No operator changes the document that it is given."""
    for make in PARENTS.values():
        parent = make()
        before = to_yaml(parent)
        for operator in BY_NAME.values():
            proposals(operator, parent, draws=1)
        assert to_yaml(parent) == before


@pytest.mark.usefixtures("strangers")
def test_composites_of_other_packages_are_put_around_and_taken_away() -> None:
    """Mixers come into and out of every composite there is, and mixers that cannot be drawn never come."""
    parent = document(stage("body", {"route": ["near", {"kind": "convolution"}]}), pseudopods={"near": ATTENTION})
    unwrapped = {str(mix) for mix in mixes(ReplaceMixer(), parent, draws=60)}
    assert {"near", "size=4 gate=True act='none' maps=True residual=False"} <= unwrapped
    found = [mix for mix in mixes(ReplaceMixer(), document(), draws=400) if isinstance(mix, Spec)]
    assert {"route", "pair", "parallel", "inheriting", "blocks"} <= {mix.kind for mix in found}
    assert all(ATTENTION in (to_data(mix)["route"]) for mix in found if mix.kind == "route")
    assert "needy" not in {mix.kind for mix in found}


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("name", BY_NAME)
def test_operators_leave_stages_of_other_packages_whole(name: str) -> None:
    """At and beside a stage of another package, operators act on the stages that they name and lose no other."""
    parent = document(
        stage("low", repeat=2), {"kind": "twin", "name": "odd", "twin": ATTENTION}, stage("mid"), stage("top", repeat=2)
    )
    children = accepted(BY_NAME[name], parent, draws=6)
    assert children
    for child, _ in children:
        names = [found.name for found in child.organism.stages]  # type: ignore[attr-defined]
        assert len({"low", "odd", "mid", "top"} - set(names)) <= (name in ("remove", "join"))
        twins = {found.name for found in child.organism.stages if found.kind == "twin"}  # type: ignore[attr-defined]
        assert twins <= {"odd", "odd_2", "low", "mid"}
        assert twins or name in ("remove", "join")


@pytest.mark.usefixtures("strangers")
def test_a_mixer_in_a_stage_of_another_package_is_a_mixer() -> None:
    """It is replaced like any other, and a lone foreign stage has nothing to insert after it."""
    parent = document({"kind": "twin", "name": "odd", "twin": ATTENTION})
    children = [child for child, _ in accepted(ReplaceMixer(), parent, draws=20)]
    assert len({to_yaml(child) for child in children}) > 3
    assert not accepted(BY_NAME["insert"], parent)
