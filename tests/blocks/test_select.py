"""Selections: what they count is what they choose, ties, documents, what teaches an index, and the prefix stencil."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import CONTEXT, Whole, built, document, inputs, mixer, mixer_plan, organism, stage
from torch import Tensor

from evo.blocks.attention.spec import AttentionSpec
from evo.blocks.attention.stencils import PrefixStencil
from evo.blocks.flow import Flow
from evo.blocks.position.spec import RopeSpec
from evo.blocks.select.compressed import Compressed
from evo.blocks.select.module import Asked, ByIndex, Select, best
from evo.blocks.select.spec import block_pairs
from evo.compiler.check import check
from evo.compiler.organism import OrganismState
from evo.dsl.document import from_data
from evo.dsl.spec import Scope
from evo.kernels.attention import Stencil, attend

ATTENTION = {"kind": "attention", "heads": 4, "kv_heads": 2, "position": {"kind": "none"}}
SELECTS = {
    "tokens": {"kind": "tokens", "top": 3, "heads": 2, "dim": 4},
    "blocks": {"kind": "blocks", "size": 3, "top": 2, "dim": 4},
    "compressed": {"kind": "compressed", "size": 3, "top": 2, "window": 2},
    "means": {"kind": "means", "size": 3, "top": 2},
    "values": {"kind": "values", "top": 3},
    "nearest": {"kind": "nearest", "size": 4, "top": 2},
    "whole_blocks": {"kind": "whole_blocks", "size": 3, "top": 2, "dim": 4},
    "pooled": {"kind": "pooled", "size": 3, "overlap": True, "index": {"top": 1, "dim": 4}},
}
EVERY = pytest.mark.parametrize("select", SELECTS.values(), ids=SELECTS)


def seen_by(select: Select, x_BTD: Tensor, heads: int = 4, groups: int = 2) -> Tensor:
    """(B, T, H, S): which keys take part, told by attending to unit vectors with equal scores."""
    tokens = x_BTD.shape[1]
    q = x_BTD.new_zeros(1, tokens, heads, 4)
    units = torch.eye(tokens, dtype=x_BTD.dtype)[None, :, None].expand(1, -1, groups, -1)
    asked = Asked(x_BTD, x_BTD, q, q[:, :, :groups], units, attend, 0.5)
    return select.attended(asked, Stencil(), Flow()) > 0


@pytest.mark.parametrize(("name", "size", "top"), [("attention tokens", 1, 5), ("attention blocks", 3, 3)])
def test_counted_pairs_are_chosen(name: str, size: int, top: int) -> None:
    """As many pairs are left as the cost counts, in every head."""
    select = mixer(name).block.child("select")
    assert isinstance(select, ByIndex)
    pairs_H = seen_by(select, inputs(batch=1)).sum((0, 1, 3))
    assert set(pairs_H.tolist()) == {block_pairs(size, top, CONTEXT)}


@pytest.mark.parametrize("context", [1, 5, 12, 13, 30])
@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("top", [1, 2, 20])
def test_pairs_of_blocks(size: int, top: int, context: int) -> None:
    """The closed form is the sum over queries."""
    counted = sum(t % size + 1 + size * min(t // size, top - 1) for t in range(context))
    assert block_pairs(size, top, context) == counted


def test_of_equal_scores_the_earlier_token_is_chosen() -> None:
    """So a choice depends on no later token, nor on how many there are."""
    scores = torch.tensor([1.0, 0.0, 0.0, 2.0, 0.0, -torch.inf, -torch.inf])
    assert best(scores, 3).tolist() == [True, True, False, True, False, False, False]
    assert best(scores[:5], 3).tolist() == best(scores, 3)[:5].tolist()


def test_a_query_meets_its_own_block_whatever_the_top() -> None:
    """Of the blocks that are chosen in any case, a query's own comes first, then the one before, then the first."""
    select = mixer("attention compressed, alibi").block.child("select")
    assert isinstance(select, Compressed)
    q = torch.randn(1, 12, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen = select._chosen(Asked(q, q, q, q, q, attend, 0.5), q.unflatten(1, (-1, 4)).mean(2), Flow())
    own = torch.arange(12)[:, None] // 4 == torch.arange(12) // 4
    assert torch.equal(chosen[0, 0], own & torch.ones(12, 12).bool().tril())


@EVERY
@pytest.mark.parametrize("ids", [torch.int64, torch.int32], ids=["int64", "int32, as routes count them"])
def test_packed_documents_do_not_meet(select: dict[str, Any], ids: torch.dtype) -> None:
    """Changing one document of a row changes nothing in another."""
    module = organism([stage("s", {**ATTENTION, "select": select})], position={"kind": "none"}).stages["s"].child("0")
    block, x = module.child("mixer"), inputs(12, batch=1)
    segments_BT = torch.tensor([[1] * 5 + [2] * 7], dtype=ids)
    changed = x.clone()
    changed[:, :5] += 1.0
    first, second = (block(each, Flow(segments_BT=segments_BT)) for each in (x, changed))
    torch.testing.assert_close(first[:, 5:], second[:, 5:], rtol=0, atol=0)
    assert (first[:, :5] - second[:, :5]).abs().max() > 1e-6


def test_an_index_is_taught_by_its_loss_alone() -> None:
    """The task's gradient reaches the attention and not the index, that of `align` the index and nothing else."""
    whole, x = mixer("latent tokens"), inputs().requires_grad_()
    y, loss = whole.pass_(x)
    named = dict(whole.named_parameters())
    of_task = torch.autograd.grad(y.square().sum(), [*named.values()], retain_graph=True, allow_unused=True)
    of_loss = torch.autograd.grad(loss, [x, *named.values()], allow_unused=True)
    taught = {name for name, gradient in zip(["x", *named], of_loss, strict=True) if gradient is not None}
    assert taught == {name for name, gradient in zip(named, of_task, strict=True) if gradient is None}
    assert taught == {name for name in named if name.startswith("select.")}


@pytest.mark.parametrize("name", ["attention tokens", "attention blocks"])
def test_the_loss_of_an_index_is_a_divergence_that_falls(name: str) -> None:
    """It is a divergence: never negative, and a few steps on it make it smaller."""
    whole, x = Whole(built(mixer_plan(name))), inputs()
    weights = [p for path, p in whole.named_parameters() if path.startswith("select.")]
    found: list[float] = []
    for _ in range(12):
        _, loss = whole.pass_(x)
        found.append(float(loss.detach()))
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.data.sub_(0.05 * gradient)
    assert min(found) > 0
    assert found[-1] < 0.95 * found[0]


def test_a_choice_is_shared() -> None:
    """A later attention meets what an earlier one has chosen, in parallel and token by token."""
    giving = {**ATTENTION, "select": {**SELECTS["tokens"], "to": "seen"}}
    taking = {**ATTENTION, "select": {"kind": "shared", "of": "seen"}}
    model = organism([stage("s", [giving, taking], repeat=2, ffn={"kind": "none"})])
    tokens_BT = torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(0))
    flow = Flow()
    whole, state, parts = model(tokens_BT, flow), OrganismState(), []
    for token_B1 in tokens_BT.split(1, dim=1):
        logits, state = model.extend(token_B1, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-11)
    q = torch.zeros(1, 12, 4, 4, dtype=torch.float64)
    units = torch.eye(12, dtype=torch.float64)[None, :, None].expand(1, -1, 2, -1)
    shared = model.stages["s"].child("1").child("mixer").child("select")
    assert isinstance(shared, Select)
    weights = shared.attended(Asked(q, q, q, q[:, :, :2], units, attend, 0.5), Stencil(), flow)
    assert torch.equal(weights[:, :, 0] > 0, flow.signals["choice of seen"])


def test_a_choice_that_nobody_publishes_is_told() -> None:
    """EVO315, as any value that nothing provides."""
    stages = [stage("s", {**ATTENTION, "select": {"kind": "shared", "of": "seen"}})]
    data: Any = {"evo": 1, "organism": {"width": 16, "stages": stages}}
    found = check(from_data(data))
    assert [diagnostic.code for diagnostic in found if diagnostic.severity == "error"] == ["EVO315"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"select": {"kind": "tokens", "top": 64}}, "EVO331"),
        ({"select": {"kind": "blocks", "size": 8, "top": 2, "local": 3}}, "EVO360"),
        ({"select": {"kind": "tokens", "top": 4}, "stencil": {"kind": "window", "size": 5}}, "EVO360"),
        ({"select": {"kind": "tokens", "top": 4, "position": {"kind": "alibi"}}}, "EVO304"),
        ({"select": {"kind": "tokens", "top": 4, "dim": 4, "norm": {"kind": "rms", "groups": 3}}}, "EVO303"),
        ({"select": {"kind": "pooled", "size": 33}}, "EVO360"),
        ({"select": {"kind": "pooled", "size": 4}, "position": {"kind": "alibi"}}, "EVO360"),
        ({"select": {"kind": "pooled", "size": 4, "index": {"top": 8}}}, "EVO331"),
    ],
)
def test_what_cannot_choose_is_told(changes: dict[str, Any], code: str) -> None:
    """A selection that hides nothing, or that does not fit its attention."""
    mix = {"kind": "attention", "heads": 2, **changes}
    found = check(from_data({"evo": 1, "organism": {"width": 16, "context": 32, "stages": [stage("s", mix)]}}))
    assert [diagnostic.code for diagnostic in found] == [code]


@pytest.mark.parametrize("select", ["compressed", "pooled"])
def test_means_of_blocks_need_keys_by_head(select: str) -> None:
    """Latent attention keeps none, and says so."""
    mix = {"kind": "latent", "heads": 2, "select": SELECTS[select]}
    found = check(from_data({"evo": 1, "organism": {"width": 16, "stages": [stage("s", mix)]}}))
    assert [diagnostic.code for diagnostic in found] == ["EVO360"]


def test_a_prefix_is_seen_by_all_and_read_in_one_piece() -> None:
    """Positions of a prefix see one another, later ones their past; a decoder must have the prefix whole."""
    stencil = PrefixStencil(size=5)
    scope = Scope(width=16, context=CONTEXT, depth=1, position=RopeSpec())
    spec = AttentionSpec(heads=2, stencil=stencil)
    assert not list(spec.problems(scope))
    module, x = built(spec.plan(scope)), inputs(9, batch=1).requires_grad_()
    y = module(x, Flow())
    for t in range(9):
        (gradient,) = torch.autograd.grad(y[0, t].square().sum(), x, retain_graph=True)
        assert (gradient[0].abs().sum(-1) > 0).tolist() == [s <= t or s < 5 for s in range(9)]
    for context in (1, 4, 5, 9):
        kernel, places = Stencil(**stencil.kernel()), torch.arange(context)
        assert stencil.visible(context, True) == int(kernel.allows(places[:, None], places[None]).sum())
    state = module.initial_state(1, "cpu", x.dtype)
    first, state = module.extend(x[:, :6], state, Flow())
    second, _ = module.extend(x[:, 6:], state, Flow(position=6))
    torch.testing.assert_close(torch.cat((first, second), 1), y, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="in one piece"):
        module.extend(x[:, :3], module.initial_state(1, "cpu", x.dtype), Flow())


def test_a_prefix_is_refused_where_the_next_token_is_asked_for() -> None:
    """EVO343, at the stencil."""
    mix = {"kind": "attention", "heads": 2, "stencil": {"kind": "prefix", "size": 4}}
    found = check(from_data({"evo": 1, "organism": {"width": 16, "stages": [stage("s", mix)]}}))
    help = "let the task give 4 tokens (given), choose another stencil, or choose another task"
    assert [(d.code, d.help) for d in found] == [("EVO343", help)]


def test_costs_are_those_of_what_is_left() -> None:
    """The plan counts the chosen pairs, the index, and its keys in the cache."""
    whole, chosen = (document([stage("s", {**ATTENTION, **more})]) for more in ({}, {"select": SELECTS["tokens"]}))
    assert whole != chosen
    plain, narrowed = mixer_plan("attention grouped"), mixer_plan("attention tokens")
    index = dict(dict(narrowed.children)["select"].children)["index"]
    assert index.cost.cache_per_token == 4
    assert narrowed.cost.flops < plain.cost.flops
