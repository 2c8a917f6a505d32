"""Growing operators: what the parent computed, the child computes before it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from parents import PARENTS, document, hybrid, stage

from evo.base.streams import Stream
from evo.compiler.build import build, initial_weights
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.document import Document
from evo.evolution.inheritance import starting_weights
from evo.evolution.mutate import Child, NoChildError, mutate
from evo.evolution.operators import Operator, WeightSources, growth
from evo.evolution.operators.growth import GROWING, AddSource, keeps
from evo.evolution.operators.wiring import Rewire

BY_NAME = {operator.name: operator for operator, _ in GROWING}


def trained(plan: Plan) -> dict[str, torch.Tensor]:
    """Weights none of which is as it began: gains, biases and all."""
    generator = torch.Generator().manual_seed(3)
    drawn = initial_weights(plan, 5)
    return {path: w + 0.1 * torch.randn(w.shape, generator=generator) for path, w in drawn.items()}


def loss(plan: Plan, weights: dict[str, torch.Tensor]) -> float:
    """The task's loss in float64 on some made-up text."""
    tokens = torch.randint(0, 256, (2, 13), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        losses = build(plan, 0, weights=weights).double().losses(tokens[:, :-1], tokens[:, 1:])
    return float(losses.task)


def child_of(parent: Document, operator: Operator, seed: int) -> Child | None:
    """A child of an operator that keeps what its parent computes."""
    before = resolve(parent.organism)
    accept: Any = lambda child, plan: keeps(before, plan)  # noqa: E731
    try:
        return mutate(parent, Stream(seed), accept=accept, operators=((operator, 1.0),))
    except NoChildError:
        return None


def inherited(child: Document, weights: dict[str, torch.Tensor], origins: WeightSources) -> dict[str, torch.Tensor]:
    """The child's first weights."""
    return starting_weights(resolve(child.organism), child, [weights], origins)[0]


@pytest.mark.parametrize("name", BY_NAME)
def test_the_childs_first_loss_is_the_parents(name: str) -> None:
    """Whatever a growing operator adds, the loss of the inherited weights is the parent's, and there is more of it."""
    for parent in (document(stage("one", repeat=2), stage("two")), hybrid()):
        before = resolve(parent.organism)
        weights = trained(before)
        for seed in range(2):
            child = child_of(parent, BY_NAME[name], seed)
            assert child is not None
            after = resolve(child.document.organism)
            assert after.parameters > before.parameters
            first = loss(after, inherited(child.document, weights, child.origins))
            assert first == pytest.approx(loss(before, weights), rel=1e-6)


def test_a_condition_around_a_mixer_is_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixer's weights move into what is made around it, which computes what it did."""
    monkeypatch.setattr(growth, "composites", lambda: ["conditioned"])
    parent = document(stage("one", repeat=2))
    before = resolve(parent.organism)
    weights, child = trained(before), child_of(parent, BY_NAME["add_branch"], 0)
    assert child is not None
    after = resolve(child.document.organism)
    assert any(block.begins_as for _, block in after.named_blocks())
    first = loss(after, inherited(child.document, weights, child.origins))
    assert first == pytest.approx(loss(before, weights), rel=1e-6)


def test_adapters_of_another_use_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a mixer comes to stand in a sum, those that a later stage adds to its maps stay beside these."""
    monkeypatch.setattr(growth, "composites", lambda: ["parallel"])
    lora = {"kind": "lora", "rank": 2}
    again = {"name": "two", "weights_of": "one", "adapters": lora}
    adapted = {"kind": "adapted", "of": stage("body"), "adapters": lora}
    parents = [
        document({"name": "one", **adapted}, again),
        document({"name": "one", "kind": "loop", "of": {"name": "turn", **adapted}}),
    ]
    for parent in parents:
        require_kept(parent)


def require_kept(parent: Document) -> None:
    """Fail unless a branch beside the first mixer leaves the loss as it was."""
    before = resolve(parent.organism)
    weights, child = trained(before), child_of(parent, BY_NAME["add_branch"], 0)
    assert child is not None
    first = loss(resolve(child.document.organism), inherited(child.document, weights, child.origins))
    assert first == pytest.approx(loss(before, weights), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("parent", PARENTS)
def test_random_walks_keep_the_function(parent: str) -> None:
    """Walks of eight additions, inherited step by step or all at once, end where they began."""
    for seed in range(4):
        document, weights, stream = PARENTS[parent](), {}, Stream(seed)
        weights = trained(resolve(document.organism))
        first = loss(resolve(document.organism), weights)
        for step in range(8):
            before = resolve(document.organism)
            child = mutate(
                document,
                stream.child("step", step),
                mutations=1 + step % 2,
                accept=lambda child, plan, before=before: keeps(before, plan),
                operators=GROWING,
            )
            weights = inherited(child.document, weights, child.origins)
            document = child.document
            assert loss(resolve(document.organism), weights) == pytest.approx(first, rel=1e-5), child.operators


def test_what_is_added_learns() -> None:
    """After one step of training on a grown child, what was added is part of what it computes."""
    parent = document(stage("one"), stage("two"))
    before = resolve(parent.organism)
    weights = trained(before)
    child = child_of(parent, AddSource(), 0)
    assert child is not None
    model = build(resolve(child.document.organism), 0, weights=inherited(child.document, weights, child.origins))
    tokens = torch.arange(24).reshape(2, 12)
    model.loss(tokens, tokens).backward()
    gradient = model.get_parameter("stages.two.merge").grad
    assert gradient is not None
    assert gradient.abs().sum(1).min() > 0


def test_what_changes_the_function_is_told() -> None:
    """A layer behind a norm, a wider stream, a block that passes its input on, or other gains by depth are refused."""
    plain = document(stage("body", repeat=2))
    post = document(stage("body", repeat=2), norm={"kind": "rms", "place": "post"})
    deeper_post = document(stage("body", repeat=3), norm={"kind": "rms", "place": "post"})
    idle = {"kind": "experts", "count": 3, "top": 2, "identity": 1}
    pairs = [
        (post, deeper_post),
        (plain, document(stage("body", repeat=2), width=48)),
        (plain, document(stage("body", repeat=2), stage("end", ffn=idle))),
        (plain, document(stage("body", repeat=1))),
        (plain, document(stage("body", {"kind": "convolution"}, repeat=2))),
    ]
    for before, after in pairs:
        assert not keeps(resolve(before.organism), resolve(after.organism))
    assert keeps(resolve(plain.organism), resolve(document(stage("body", repeat=3)).organism))


def test_rewiring_keeps_the_gains_of_sources() -> None:
    """Each source's gains go with it wherever it stands in the list, and a lone source had gains of one."""
    parent = document(stage("a"), stage("b"), stage("c", **{"from": ["a", "b"]}))
    weights = trained(resolve(parent.organism))
    seen = set()
    for seed in range(12):
        child = child_like(parent, seed)
        merge = inherited(child.document, weights, child.origins).get("stages.c.merge")
        reads = dict(resolve(child.document.organism).stages[2].reads)["x"]
        old: dict[str, torch.Tensor] = dict(zip(("a", "b"), weights["stages.c.merge"], strict=True))
        if merge is not None:
            for name, row in zip(reads, merge, strict=True):
                assert torch.equal(row, old[name] if name in old else torch.zeros(32))
        seen.add(reads)
    assert len(seen) >= 2


def child_like(parent: Document, seed: int) -> Child:
    """A rewired child."""
    return mutate(parent, Stream(seed), operators=((Rewire(), 1.0),))
