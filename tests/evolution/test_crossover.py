"""Crossover: stages of two parents in one child, with the weights of the parent they came from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from parents import document, hybrid, stage

from evo.base.streams import Stream
from evo.compiler.build import build, initial_weights
from evo.compiler.check import check
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash, to_yaml
from evo.dsl.document import Document, parse
from evo.dsl.patch import apply
from evo.evolution import crossover
from evo.evolution.crossover import align, cross
from evo.evolution.inheritance import starting_weights
from evo.evolution.mutate import NoChildError, Valid, validated
from evo.evolution.operators import Proposal

CONVOLUTION = {"kind": "convolution"}


def pair() -> tuple[Document, Document]:
    """Parents of the same stages: attention throughout, and convolution throughout."""
    one = document(stage("lower"), stage("upper", repeat=2), train={"clip": 0.5})
    two = document(stage("lower", CONVOLUTION), stage("upper", CONVOLUTION, repeat=2), train={"clip": 2.0})
    return one, two


def weights_of(parent: Document, seed: int) -> dict[str, torch.Tensor]:
    """Weights of a parent, unlike those of any other seed."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {path: tensor.shape for path, tensor in initial_weights(resolve(parent.organism), 0).items()}
    return {path: torch.randn(shape, generator=generator) for path, shape in shapes.items()}


def test_no_exchange_is_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parents of one stage can be exchanged in four ways: when none is accepted, four are validated, not forty."""
    one, two = document(stage("lower")), document(stage("lower", CONVOLUTION), train={"clip": 2.0})
    tried = list[str]()

    def noting(parent: Document, proposal: Proposal) -> Valid | None:
        tried.append(proposal.patch.to_yaml())
        return validated(parent, proposal)

    monkeypatch.setattr(crossover, "validated", noting)
    with pytest.raises(NoChildError):
        cross(one, two, Stream(0), accept=lambda child, plan: False)
    assert len(tried) == len(set(tried)) == 4


def test_children_are_valid_and_unlike_both() -> None:
    """Every child is valid, canonical, replays from the first parent, builds, and equals neither parent."""
    for one, two in (pair(), (document(), hybrid()), (hybrid(), document())):
        for seed in range(6):
            child = cross(one, two, Stream(seed))
            assert check(parse(to_yaml(child.document))) == []
            assert to_yaml(apply(child.patch, one).document) == to_yaml(child.document)
            assert child.hash not in (content_hash(one), content_hash(two))
            assert child.operators == ("crossover",)
            build(resolve(child.document.organism), 0)


def test_what_both_parents_have_is_averaged() -> None:
    """Weights of one path, kind of block and shape in both parents begin at their mean, all others at those of the
    parent whose stage it is: nothing is drawn. An output map of attention is not averaged with one of a convolution."""
    one, two = pair()
    first, second = weights_of(one, 1), weights_of(two, 2)
    seen = set()
    for seed in range(12):
        child = cross(one, two, Stream(seed))
        plan = resolve(child.document.organism)
        start, report = starting_weights(plan, child.document, [first, second], child.origins)
        assert report.share == 1.0
        for path, tensor in start.items():
            if ".mixer." in path:
                kind = "convolution" if is_convolution(child.document, path) else "attention"
                assert torch.equal(tensor, (second if kind == "convolution" else first)[path]), path
            else:
                kind = "both"
                assert torch.equal(tensor, (first[path] + second[path]) / 2), path
            seen.add(kind)
    assert seen == {"attention", "convolution", "both"}


def test_the_average_follows_the_stages() -> None:
    """Of stages of other names at the same place, and of a stage that grew: what fits is averaged, the rest is the
    parent's whose stage it is."""
    one = document(stage("lower"), stage("upper"))
    two = document(stage("lower", repeat=2), stage("top"), train={"clip": 2.0})
    first, second = weights_of(one, 1), weights_of(two, 2)
    adopted = False
    for seed in range(12):
        child = cross(one, two, Stream(seed))
        start, _ = starting_weights(resolve(child.document.organism), child.document, [first, second], child.origins)
        for name, tensor in start.items():
            there = name.replace("stages.upper.", "stages.top.")
            if name in first:
                assert torch.equal(tensor, (first[name] + second[there]) / 2), name
            else:
                adopted = True
                assert torch.equal(tensor, second[there]), name
    assert adopted


def is_convolution(child: Document, path: str) -> bool:
    """Whether the stage that a weight belongs to mixes by convolution."""
    (found,) = (s for s in child.organism.stages if s.name == path.split(".")[1])  # type: ignore[attr-defined]
    return found.mix[0].kind == "convolution"  # type: ignore[attr-defined]


def test_gains_stay_with_the_wiring() -> None:
    """A stage taken from the second parent reads what the first one's stage read, with the first one's gains."""
    sources = {"from": ["embedding", "lower"]}
    one = document(stage("lower"), stage("upper", **sources))
    two = document(stage("lower", CONVOLUTION), stage("upper", CONVOLUTION, **sources))
    first, second = weights_of(one, 1), weights_of(two, 2)
    for seed in range(6):
        child = cross(one, two, Stream(seed))
        start, _ = starting_weights(resolve(child.document.organism), child.document, [first, second], child.origins)
        assert torch.equal(start["stages.upper.merge"], first["stages.upper.merge"])


def test_budgets_are_not_exchanged() -> None:
    """Of the training only what evolution may move crosses over: steps, text, batch and seed stay the first one's."""
    one = document(train={"steps": 3, "batch": 2, "seed": 1, "clip": 0.5})
    two = document(train={"steps": 9, "batch": 4, "seed": 2, "clip": 2.0, "optimizer": {"kind": "lion"}})
    child = cross(one, two, Stream(0)).document
    assert (child.train.steps, child.train.batch, child.train.seed) == (3, 2, 1)
    assert (child.train.clip, child.train.optimizer.kind) == (2.0, "lion")


def test_an_adopted_stage_means_the_same() -> None:
    """Names, position and norm are written out where the new home has others, and left out where it has not."""
    near = {"kind": "attention", "heads": 2, "stencil": {"kind": "window", "size": 4}}
    one = document(stage("body"), stage("top"), position={"kind": "none"})
    two = document(stage("body", "near"), pseudopods={"near": near}, norm={"kind": "layer"})
    children = (cross(one, two, Stream(seed)).document.organism for seed in range(20))
    child = next(found for found in children if found.stages[0].norm is not None)  # type: ignore[attr-defined]
    ours, theirs = (next(resolve(o).stages[0].running_layers())[1] for o in (child, two.organism))
    mixers = ours.child("mixer"), theirs.child("mixer")
    assert mixers[0].settings == mixers[1].settings
    assert mixers[0].children == mixers[1].children
    assert (ours.child("mixer_norm"), ours.wiring) == (theirs.child("mixer_norm"), theirs.wiring)
    assert child.stages[0].position.kind == "rope"  # type: ignore[attr-defined]
    same = [found for seed in range(6) for found in cross(*pair(), Stream(seed)).document.organism.stages]
    assert all(found.norm is None and found.position is None for found in same)  # type: ignore[attr-defined]


def test_alignment() -> None:
    """Stages correspond by name wherever they stand, the rest by place, none twice."""
    one = document(stage("a"), stage("b"), stage("c"))
    two = document(stage("b"), stage("x"), stage("y"), stage("z"))
    assert align(one, two) == [(1, 0), (2, 2)]
    assert align(two, one) == [(0, 1), (2, 2)]
    assert align(one, one) == [(0, 0), (1, 1), (2, 2)]


def test_equal_parents_have_nothing_to_exchange() -> None:
    """Two copies give no child, and say so."""
    with pytest.raises(NoChildError):
        cross(document(), document(), Stream(0))


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize(
    "mix", [{"route": ["near", {"parallel": ["far", "near"]}]}, {"kind": "pair", "first": "far", "second": "near"}]
)
def test_no_composite_takes_its_names_to_another_home(mix: dict[str, Any]) -> None:
    """What a name stands for comes along, though both parents have the name and no form is known here."""
    attention, convolution = {"kind": "attention", "heads": 2}, {"kind": "convolution"}
    one = document(stage("body", "near"), stage("top"), pseudopods={"near": convolution}, position={"kind": "none"})
    pseudopods = {"near": attention, "far": {"parallel": ["near", convolution]}}
    two = document(stage("body", mix), stage("top", convolution), pseudopods=pseudopods)
    plans = [resolve(cross(one, two, Stream(seed)).document.organism) for seed in range(8)]
    own, theirs = (resolve(parent.organism).stages[0].children for parent in (one, two))
    found = [plan.stages[0].children for plan in plans]
    assert theirs in found
    assert all(layers in (own, theirs) for layers in found)


@pytest.mark.usefixtures("strangers")
def test_stages_of_other_packages_are_exchanged() -> None:
    """A kind of stage that has no norm or position of its own crosses over with its names written out."""
    near = {"kind": "attention", "heads": 4}
    odd = {"kind": "twin", "name": "odd"}
    one = document({**odd, "twin": CONVOLUTION}, stage("top"))
    two = document(
        {**odd, "twin": "near"}, stage("top", CONVOLUTION), pseudopods={"near": near}, norm={"kind": "layer"}
    )
    found = [cross(one, two, Stream(seed)) for seed in range(8)]
    adopted = [child for child in found if child.document.organism.stages[0].twin.kind == "attention"]  # type: ignore[attr-defined]
    assert adopted
    assert all(("stages.odd.", 1, "stages.odd.") in child.origins for child in adopted)
