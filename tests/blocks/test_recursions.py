"""Stages with the weights of another inside others: Mixture-of-Recursions written out, kept states, costs, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import document, moved, organism, plan, stage

from evo.blocks.flow import Flow
from evo.compiler.check import check
from evo.compiler.organism import Organism, OrganismState
from evo.dsl.document import from_data
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2}
MIX = [{"kind": "convolution"}, ATTENTION]
AGAIN = {"name": "again", "weights_of": "turn"}
ROUTER = {"kind": "depths", "of": AGAIN, "weigh": "sigmoid", "scale": 0.3, "adds": "whole"}
STAGES = [
    stage("turn", ATTENTION, repeat=2),
    {**ROUTER, "name": "second", "share": 0.7, "picks_to": "two"},
    {**ROUTER, "name": "third", "share": 0.35, "picks_from": "two", "picks_to": "three"},
    {**ROUTER, "name": "fourth", "share": 0.2, "picks_from": "three"},
]
SEED = torch.tensor(0)


def rows(tokens: int = 12) -> torch.Tensor:
    return torch.randint(256, (3, tokens), generator=torch.Generator().manual_seed(0))


def model(stages: list[dict[str, Any]] = STAGES) -> Organism:
    """In float64, with every weight moved."""
    return moved(organism(stages))


def test_recursions_are_those_of_the_paper() -> None:
    """H <- H + 0.3 sigmoid(g) f(H[picked]) for the best of the tokens that the recursion before picked, with one set of
    weights, gathered and scattered as expert-choice routing is; and the cross-entropy over those there were to pick."""
    found = model()
    turn, tokens, losses = found.stages["turn"], rows(), []
    h, chosen = turn.run({"x": [found.embed(tokens)]}, Flow()).value(), torch.arange(12).repeat(3, 1)
    for name, share in (("second", 0.7), ("third", 0.35), ("fourth", 0.2)):
        router = found.stages[name].get_parameter("router")[0]
        logits = (h @ router).gather(1, chosen)
        best = logits.topk(round(share * 12), dim=1).indices.sort(dim=1).values
        targets = torch.zeros_like(logits).scatter(1, best, 1.0)
        p = logits.sigmoid()
        losses.append(-(targets * p.log() + (1 - targets) * (1 - p).log()).mean())
        chosen = chosen.gather(1, best)
        at = chosen[..., None].expand(-1, -1, h.shape[-1])
        made = turn.run({"x": [h.gather(1, at)]}, Flow()).value()
        h = h.scatter_add(1, at, 0.3 * logits.gather(1, best).sigmoid()[..., None] * made)
    flow = Flow(seed=SEED)
    torch.testing.assert_close(found.hidden(found.embed(tokens), flow), found.final_norm(h, Flow()))  # type: ignore[misc]
    torch.testing.assert_close(flow.losses["pick"], 0.01 * torch.stack(losses).sum())


def test_they_decode_as_they_are_scored_and_learn() -> None:
    """Step by step the logits are those of the whole, nothing leaks, and every weight has a gradient."""
    found, state, parts = model(), OrganismState(), []
    for piece in rows().split([5, 1, 6], dim=1):
        logits, state = found.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(rows()))
    assert find_leak(found) is None
    found.loss(rows(), rows()).backward()
    assert [path for path, p in found.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


@pytest.mark.parametrize(
    "around",
    [
        {"kind": "loop", "times": 2},
        {"kind": "cycles", "times": 1, "turns": 2},
        {"kind": "segments", "every": 4, "hand": "states"},
        {"kind": "chunks", "size": 2.0},
        {"kind": "depths", "patcher": {"kind": "every"}, "share": 0.5},
    ],
    ids=lambda around: around["kind"],
)
def test_another_stages_weights_stand_inside_any_stage_as_wide(around: dict[str, Any]) -> None:
    """It computes what the same stage of its own would with these weights, and has no weights itself."""
    found = model([stage("turn", MIX, repeat=2), {**around, "name": "b", "of": AGAIN}])
    apart = organism(
        [stage("turn", MIX, repeat=2), {**around, "name": "b", "of": stage("again", MIX, repeat=2)}]
    ).double()
    state = found.state_dict()
    inner = {path.replace(".turn.", ".b.of_again."): weight for path, weight in state.items() if ".turn." in path}
    assert not [path for path in state if "of_again" in path]
    apart.load_state_dict({**state, **inner})
    torch.testing.assert_close(found(rows()), apart(rows()))
    state, parts = OrganismState(), []
    for piece in rows().split([5, 1, 6], dim=1):
        logits, state = found.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(rows()))


def test_what_runs_for_few_tokens_costs_little() -> None:
    """Also where it is another stage, or one with adapters."""
    for inside in (AGAIN, {"name": "own", "kind": "adapted", "of": stage("in", ATTENTION)}):
        few = plan([STAGES[0], {"name": "b", "kind": "depths", "share": 0.125, "of": inside}]).stages[1]
        outside = AGAIN if inside is AGAIN else {**inside, "name": "b"}
        assert few.flops < 0.2 * plan([STAGES[0], {**outside, "name": "b"}]).stages[1].flops


def test_weights_that_meet_something_else_are_refused() -> None:
    """Another width, other maps, a look ahead, and picks that nobody gives."""
    turn = stage("turn", ATTENTION)
    for around in ({"kind": "patches", "size": 2}, {"kind": "recast"}, {"kind": "adapted"}):
        with pytest.raises(AssertionError, match="EVO359"):
            document([turn, {"name": "b", "of": AGAIN, **around}])
    with pytest.raises(AssertionError, match="sees later tokens"):
        document([stage("turn", {**ATTENTION, "causal": False}), {**ROUTER, "name": "b"}], position={"kind": "none"})
    with pytest.raises(AssertionError, match="EVO315"):
        document([turn, {**ROUTER, "name": "b", "picks_from": "nobody"}])
    itself = {**ROUTER, "name": "b", "of": {"name": "again", "weights_of": "b"}}
    with pytest.raises(AssertionError, match="no such stage stands above"):
        document([turn, itself, {"name": "c", "weights_of": "b"}])


def test_what_is_wrong_with_a_stage_is_told_once() -> None:
    """Where it stands, and not again where others run it, who are not planned then."""
    wrong = stage("turn", {**ATTENTION, "heads": 3})
    for other in (AGAIN, {**ROUTER, "name": "b"}, {"name": "b", "kind": "loop", "times": 2, "of": AGAIN}):
        body = {"width": 16, "context": 8, "stages": [wrong, other]}
        assert [fault.code for fault in check(from_data({"evo": 1, "organism": body}))] == ["EVO300"], other


def test_a_stage_that_runs_another_may_be_run_itself() -> None:
    """Its weights are those of both, and it decodes as it is scored."""
    found = model([STAGES[0], {**ROUTER, "name": "b"}, {"name": "c", "weights_of": "b"}])
    state, parts = OrganismState(), []
    assert not [path for path in found.state_dict() if ".c." in path]
    for piece in rows().split([5, 7], dim=1):
        logits, state = found.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(rows()))
