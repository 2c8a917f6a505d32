"""Tokens further ahead: the published forms written out, and nothing of them outside training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import document, moved, organism, plan, stage
from torch import Tensor

from evo.blocks.ahead.module import Module, Trunk
from evo.blocks.flow import Flow
from evo.blocks.stages.stage import Stage
from evo.compiler.build import build
from evo.compiler.check import check
from evo.compiler.organism import Organism
from evo.compiler.promises import broken_promises
from evo.compiler.transplant import transplant
from evo.dsl.document import from_data
from evo.dsl.layers import LayerPlan

ATTENTION = {"kind": "attention", "heads": 2}
STAGES = [
    stage("trunk", {"kind": "convolution"}, repeat=2, ffn={"kind": "gated", "ratio": 1.0}),
    stage("top", ATTENTION, ffn={"kind": "gated", "ratio": 1.0}),
]
PARALLEL, SEQUENTIAL = {"kind": "parallel", "tokens": 2, "weight": 0.7}, {"kind": "sequential", "tokens": 2}
FORMS = pytest.mark.parametrize("ahead", [PARALLEL, SEQUENTIAL], ids=["parallel", "sequential"])


def model(ahead: dict[str, Any] | None = None, **settings: Any) -> Organism:
    """A trunk and a last layer in float64, with every weight moved."""
    return moved(organism(STAGES, **({"ahead": ahead} if ahead else {}), **settings))


def tokens(seed: int = 0) -> Tensor:
    return torch.randint(256, (2, 10), generator=torch.Generator().manual_seed(seed))


def rms(x: Tensor, gain: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), gain, 1e-6)


def written_out(found: Organism, inputs: Tensor, targets: Tensor) -> list[Tensor]:
    """The unweighed losses by the equations of the papers, for an RMS norm and a tied readout."""
    table, flow = found.embedding.weight, Flow()
    x = table[inputs]
    z = found.stages["trunk"].run({"x": [x]}, flow).value()
    h = found.stages["top"].run({"x": [z]}, flow).value()
    assert found.ahead is not None
    losses: list[Tensor] = []
    for k, part in enumerate(found.ahead.parts, start=1):
        if isinstance(part, Module):
            gains = {name: part.child(name).get_parameter("gain") for name in ("stream_norm", "token_norm", "norm")}
            joined = torch.cat((rms(h[:, :-1], gains["stream_norm"]), rms(x[:, k:], gains["token_norm"])), -1)
            h = part.layer.run({"x": [joined @ part.join.T]}, Flow()).value()
            read = rms(h, gains["norm"])
        else:
            assert isinstance(part, Stage)
            assert found.final_norm is not None
            read = rms(part.run({"x": [z]}, Flow()).value(), found.final_norm.get_parameter("gain"))[:, :-k]
        losses.append(F.cross_entropy((read @ table.T).flatten(0, 1), targets[:, k:].flatten()))
    return losses


@FORMS
def test_losses_are_those_written_out(ahead: dict[str, Any]) -> None:
    """Values and gradients of all losses equal the equations of Gloeckle et al. and of DeepSeek-V3."""
    found, inputs, targets = model(ahead), tokens(), tokens(1)
    losses, expected = found.losses(inputs, targets), written_out(found, inputs, targets)
    weight = {"parallel": 0.7, "sequential": 0.3 / 2}[ahead["kind"]]
    assert list(losses.auxiliary) == ["ahead_2", "ahead_3"] == list(found.plan.losses)
    ours = list(losses.auxiliary.values())
    torch.testing.assert_close(ours, [(weight * loss).float() for loss in expected])
    parameters = [p for _, p in found.named_parameters()]
    found_grads = torch.autograd.grad(torch.stack(ours).sum(), parameters, allow_unused=True)
    theirs = torch.autograd.grad(weight * torch.stack(expected).sum(), parameters, allow_unused=True)
    for mine, other in zip(found_grads, theirs, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


@FORMS
def test_nothing_of_it_runs_outside_training(ahead: dict[str, Any]) -> None:
    """Logits, the task's loss, decoding and caches are those of the same organism without it, whose weights stay."""
    found, plain = model(ahead), plan(STAGES)
    weights = {path: weight for path, weight in found.state_dict().items() if path in plain.weights}
    without = build(plain, 0).double()  # in which no weight is rounded
    without.load_state_dict(weights)
    torch.testing.assert_close(found(tokens()), without(tokens()), rtol=0, atol=1e-6)
    task = found.losses(tokens(), tokens(1)).task
    torch.testing.assert_close(task, without.losses(tokens(), tokens(1)).task, rtol=0, atol=1e-6)
    assert found.plan.cache_values(10) == plain.cache_values(10)
    assert found.plan.layers.keys() == plain.layers.keys()
    assert not any(path.startswith("ahead") for path, _ in found.extend(tokens(), found.initial_state())[1].blocks)
    grown, _ = transplant(found.plan, 0, without.state_dict())
    rounded = build(plain, 0, weights=weights).double()  # as building rounds the grown ones
    torch.testing.assert_close(build(found.plan, 0, weights=grown).double()(tokens()), rounded(tokens()))


@FORMS
def test_only_targets_that_count_are_predicted(ahead: dict[str, Any]) -> None:
    """Weights of targets are those of the tokens further on; a token of another document counts as none."""
    found, inputs, targets = model(ahead), tokens(), tokens(1)
    weights = torch.ones(2, 10)
    weights[:, 6:] = 0
    other = torch.where(weights.bool(), targets, (targets + 1) % 256)
    ours, theirs = found.losses(inputs, targets, weights), found.losses(inputs, other, weights)
    torch.testing.assert_close(dict(ours.auxiliary), dict(theirs.auxiliary))
    segments = torch.arange(10).ge(6).long().expand(2, 10)
    packed = found.losses(inputs, targets, flow=Flow(segments_BT=segments)).auxiliary["ahead_2"]
    halves = [found.losses(inputs[:, part], targets[:, part]).auxiliary["ahead_2"] for part in (slice(6), slice(6, 10))]
    if ahead["kind"] == "parallel":  # a sequential module starts the second document's positions further on
        torch.testing.assert_close(packed, (5 * halves[0] + 3 * halves[1]) / 8)


@FORMS
def test_a_sequence_too_short_to_look_ahead_has_no_loss(ahead: dict[str, Any]) -> None:
    """Where no token is so far on, nothing counts: the loss is 0, and gradients are finite."""
    found = model(ahead)
    losses = found.losses(tokens()[:, :2], tokens(1)[:, :2])
    assert float(losses.auxiliary["ahead_2"].detach()) > 0.0 == float(losses.auxiliary["ahead_3"].detach())
    losses.total.backward()
    assert all(bool(p.grad.isfinite().all()) for p in found.parameters() if p.grad is not None)
    assert float(found.losses(tokens()[:, :1], tokens(1)[:, :1]).auxiliary["ahead_2"].detach()) == 0.0


@FORMS
def test_the_plan_counts_what_training_runs(ahead: dict[str, Any]) -> None:
    """Parameters are those built; FLOPs are those of the parts and of a readout a token; promises are kept."""
    found, plain = model(ahead), plan(STAGES)
    assert found.plan.parameters == sum(p.numel() for p in found.parameters())
    layer = next(block for block in plain.layers.values() if "attention" in str(block))
    assert isinstance(layer, LayerPlan)
    top = plain.stages[-1].flops
    module = top + 2 * 2 * 16 * 16 + 3 * dict(layer.children)["ffn_norm"].flops
    part = {"parallel": top, "sequential": module}[ahead["kind"]]
    assert found.plan.flops_per_token - plain.flops_per_token == pytest.approx(2 * (part + 2 * 16 * 256))
    assert list(broken_promises(found)) == []


@pytest.mark.parametrize(
    ("stages", "ahead"),
    [
        ([stage("a", ATTENTION, repeat=2, share=True)], {"kind": "sequential"}),
        ([{"name": "a", "kind": "loop", "of": stage("b", ATTENTION)}], {"kind": "sequential"}),
        ([stage("a", ATTENTION)], {"kind": "parallel", "tokens": 8}),
        ([stage("a", ATTENTION), {"name": "b", "weights_of": "a"}], {"kind": "parallel"}),
    ],
)
def test_what_cannot_be_is_said(stages: list[dict[str, Any]], ahead: dict[str, Any]) -> None:
    """No layer to make modules like, no tokens that far on, heads without a weight: EVO356."""
    organism = {"width": 16, "context": 8, "stages": stages, "ahead": ahead}
    assert [fault.code for fault in check(from_data({"evo": 1, "organism": organism}))] == ["EVO356"]


def test_stages_that_do_not_stand_are_not_asked_for_heads() -> None:
    """What is wrong with a stage is said, also where the last one has its weights."""
    broken = stage("a", {"kind": "pool", "of": "nobody"})
    body = {"width": 16, "context": 8, "stages": [broken, {"name": "b", "weights_of": "a"}], "ahead": PARALLEL}
    assert [fault.code for fault in check(from_data({"evo": 1, "organism": body}))] == ["EVO320"]


def test_a_last_stage_that_reads_several_is_cut_well() -> None:
    """Modules read what they are handed, whatever the last stage reads; heads read all that it does."""
    stages = [*STAGES, stage("end", ATTENTION, **{"from": ["trunk", "top"]}, kv_add="trunk")]
    for ahead in (PARALLEL, SEQUENTIAL):
        found = build(plan(stages, ahead=ahead), 0)
        assert set(found.losses(tokens(), tokens(1)).auxiliary) == {"ahead_2", "ahead_3"}
    assert document(stages, ahead=SEQUENTIAL).organism.ahead is not None


def test_heads_of_a_borrowed_stage_run_it_with_their_own_adapters() -> None:
    """Each head is the stage with its own change of the maps, and training moves them all."""
    lora = {"kind": "lora", "rank": 2}
    found = organism([*STAGES, {"name": "end", "weights_of": "trunk", "adapters": lora}], ahead=PARALLEL)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1)
    found.losses(tokens(), tokens(1)).total.backward()
    assert [path for path, p in found.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


@FORMS
def test_drafts_are_what_training_predicts(ahead: dict[str, Any]) -> None:
    """Piece by piece, from caches, the likeliest tokens by the vectors of a whole pass over the same tokens."""
    found, x = model(ahead), tokens()
    assert found.ahead is not None
    state, behind, start = found.initial_state(), found.initial_state(), 0
    with torch.no_grad():
        for end in (4, 5, 8):
            piece, state = found.passed(x[:, start:end], state)
            drafts, behind = found.drafts(piece, x[:, end : end + 1], 2, behind)
            start, line = end, torch.cat((x[:, : end + 1], drafts), dim=1)
            flow = Flow()
            last = found._streamed(found.embed(line, flow), flow)  # pyright: ignore[reportPrivateUsage]
            inputs = {"x": [flow.signals["trunk"]]}
            trunk = Trunk(inputs, last, lambda residual, flow=flow: found._normed(residual, flow))  # pyright: ignore[reportPrivateUsage]
            expected = [found.read(h[:, end - 1]).argmax(-1) for h in found.ahead.vectors(trunk, flow)]
            # behind the first piece, the second module has read a draft where another token came
            known = 2 if end == 4 or ahead["kind"] == "parallel" else 1
            assert torch.equal(drafts[:, :known], torch.stack(expected[:known], 1))
