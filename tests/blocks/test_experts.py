"""Routing word by word: capacity, experts that choose, documents, the choice bias, what is reported."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, block_of, built, document, inputs, plan, stage
from ffn_variants import ROUTED
from torch import Tensor

from evo.base.diagnostics import DiagnosticError
from evo.blocks.base import Block
from evo.blocks.experts.module import Experts
from evo.blocks.experts.routing import hashed, taken, within
from evo.blocks.experts.table import Assigned
from evo.blocks.flow import Flow
from evo.compiler.build import build
from evo.compiler.check import check
from evo.dsl.document import from_data

SEGMENTS = torch.tensor([[0] * 9 + [1] * 8 + [0] * 7, [4] * 24])


def experts(**settings: Any) -> Experts:
    """The block in float64."""
    block: Block = built(
        block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": {**ROUTED, **settings}}]}}]), "0")
    )
    assert isinstance(block, Experts)
    return block


def documents_of(segments_T: Tensor) -> list[list[int]]:
    """The positions of each document of one row."""
    found: list[list[int]] = []
    for t, segment in enumerate(segments_T.tolist()):
        if t and segment == segments_T[t - 1]:
            found[-1].append(t)
        else:
            found.append([t])
    return found


def test_capacity_serves_who_comes_first():
    """An expert takes the first tokens of each document that choose it, up to its limit; counts go on."""
    chosen_BTP = torch.randint(0, 5, (2, CONTEXT, 2), generator=torch.Generator().manual_seed(0))
    before_BE = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    granted_BTP, after_BE = within(chosen_BTP, before_BE, 3, SEGMENTS)
    for row in range(2):
        counts = before_BE[row].tolist()
        for number, places in enumerate(documents_of(SEGMENTS[row])):
            counts = counts if number == 0 else [0.0] * 3
            for t in places:
                asked = chosen_BTP[row, t].tolist()
                room = [e < 3 and counts[e] < 3 for e in asked]
                assert granted_BTP[row, t].tolist() == room
                for e in asked:
                    if e < 3:
                        counts[e] += 1
        assert after_BE[row].tolist() == counts


def test_a_token_meets_the_experts_whose_logits_are_positive():
    """y = sum_e relu(l_e) f_e(x), with gradients, and a loss E sum_e load_e mean(relu(l_e)) (ReMoE, 2412.14711)."""
    block = experts(count=4, top=4, router={"score": "relu", "renormalise": False})
    w, x, flow = dict(block.named_parameters()), inputs(), Flow()
    logits = x @ w["router"].T
    assert (logits.relu() == 0).all(-1).any()  # tokens that meet none
    gate, up, down = (w[f"routed.{name}"] for name in ("gate", "up", "down"))
    hidden = F.silu(torch.einsum("efd,btd->btef", gate, x)) * torch.einsum("efd,btd->btef", up, x)
    expected = torch.einsum("bte,edf,btef->btd", logits.relu(), down, hidden)
    y = block(x, flow)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    counts_E = (logits > 0).double().sum((0, 1))
    loss = 4 * (counts_E / counts_E.sum() * logits.relu().mean((0, 1))).sum()
    torch.testing.assert_close(flow.losses["balance"], 0.01 * loss, rtol=1e-9, atol=1e-12)
    total, wanted = y.square().sum() + flow.losses["balance"], expected.square().sum() + 0.01 * loss
    found = torch.autograd.grad(total, list(w.values()))
    for one, other in zip(found, torch.autograd.grad(wanted, list(w.values())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_experts_choose_among_the_tokens_so_far(fraction: float):
    """A token is taken if fewer of its document's tokens so far are better than there is room for."""
    scores_BTE = torch.rand(2, CONTEXT, 3, generator=torch.Generator().manual_seed(1))
    is_taken_BTE = taken(scores_BTE, scores_BTE[:, :0], fraction, SEGMENTS, True)
    for row in range(2):
        for places in documents_of(SEGMENTS[row]):
            for seen, t in enumerate(places, 1):
                rivals_SE = scores_BTE[row, places[:seen]]
                better_E = (rivals_SE > scores_BTE[row, t]).sum(0)
                assert is_taken_BTE[row, t].tolist() == (better_E < math.ceil(fraction * seen)).tolist()


def test_experts_choose_in_the_published_form():
    """causal: false: each expert takes its best tokens of the whole sequence (Zhou et al. 2022), and cannot decode."""
    scores_BTE = torch.rand(2, CONTEXT, 3, generator=torch.Generator().manual_seed(1))
    is_taken_BTE = taken(scores_BTE, scores_BTE[:, :0], 0.25, None, False)
    best_BPE = scores_BTE.topk(CONTEXT // 4, dim=1).indices
    assert torch.equal(is_taken_BTE, torch.zeros_like(is_taken_BTE).scatter(1, best_BPE, True))
    data = {"kind": "experts", "router": {"choose": "each_expert", "causal": False}}
    with pytest.raises(AssertionError, match="EVO343"):
        document([stage("s", {"kind": "convolution"}, ffn=data)])


def test_a_table_chooses_by_token_and_stays_as_it_is() -> None:
    """It begins with different experts a token, reads the token's row, and no training changes it."""
    whole = plan([stage("s", {"kind": "convolution"}, ffn={**ROUTED, "router": {"choose": "table"}})])
    path = "stages.s.0.ffn.assigned.ids"
    model = build(whole, seed=0)
    ids_VP = model.get_parameter(path)
    assert ids_VP.shape == (256, 2)
    assert ((ids_VP >= 0) & (ids_VP < 4) & (ids_VP == ids_VP.round())).all()
    assert (ids_VP[:, 0] != ids_VP[:, 1]).all()
    assert len(ids_VP.unique(dim=0)) == 4
    assert path not in whole.trained
    assert not ids_VP.requires_grad
    table = model.get_submodule("stages.s.0.ffn.assigned")
    assert isinstance(table, Assigned)
    tokens_BT = torch.tensor([[3, 200, 3]])
    assert torch.equal(table.chosen(tokens_BT).float(), ids_VP[tokens_BT])
    with torch.no_grad():
        ids_VP.add_(torch.randn(ids_VP.shape, generator=torch.Generator().manual_seed(0)) * 9)
    assert ((table.chosen(tokens_BT) >= 0) & (table.chosen(tokens_BT) < 4)).all()  # a probe moves every weight


def test_a_hash_spreads_tokens_and_repeats_itself():
    """The choices of a token follow from its id alone, are different, and use every expert about equally."""
    tokens_BT = torch.arange(256)[None]
    chosen_BTP = hashed(tokens_BT, 2, 8)
    assert (chosen_BTP[..., 0] != chosen_BTP[..., 1]).all()
    counts_E = chosen_BTP.flatten().bincount(minlength=8)
    assert counts_E.min() > 0.6 * 64
    assert counts_E.max() < 1.4 * 64
    assert torch.equal(chosen_BTP, hashed(tokens_BT.flip(1), 2, 8).flip(1))


def test_a_router_may_read_through_a_norm_of_its_own():
    """Logits are maps of the norm of x, and experts get x itself: values and the gradients of every weight (MoEUT)."""
    block = experts(of={"kind": "dense", "act": "silu"}, router={"norm": {"kind": "layer"}})
    with torch.no_grad():
        for seed, weight in enumerate(block.parameters()):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed), dtype=weight.dtype))
    x, w = inputs(9).requires_grad_(), dict(block.named_parameters())
    normed = F.layer_norm(x, x.shape[-1:], w["read_norm.gain"], w["read_norm.bias"], 1e-5)
    best, chosen = (normed @ w["router"].T).topk(block.plan.top)
    hidden = F.silu(torch.einsum("btd,efd->btef", x, w["routed.up"]))
    each = torch.einsum("btef,edf->bted", hidden, w["routed.down"])
    met = each.gather(2, chosen[..., None].expand(*chosen.shape, x.shape[-1]))
    wanted = (best.softmax(-1)[..., None] * met).sum(2)
    got = block(x, Flow())
    torch.testing.assert_close(got, wanted)
    cotangent = inputs(9, seed=5)
    pairs = (torch.autograd.grad((y * cotangent).sum(), [x, *w.values()]) for y in (got, wanted))
    torch.testing.assert_close(*pairs)


def test_the_choice_bias_moves_against_the_load():
    """Descending the loss lowers the bias of experts that are met too often and raises that of others; it weighs 0."""
    block, flow, x = experts(router={"choice_bias": True, "renormalise": False}), Flow(figures={}), inputs()
    (block(x, flow).sum() * 0 + flow.losses["balance"]).backward()
    assert block.choice_bias is not None
    assert flow.losses["balance"] == 0
    assert block.router is not None
    with torch.no_grad():
        chosen = ((x @ block.router.T).softmax(-1) + block.choice_bias).topk(2, -1).indices.flatten()
    counts_E = chosen.bincount(minlength=4).double()
    assert block.choice_bias.grad is not None
    assert torch.equal(block.choice_bias.grad.sign(), (counts_E - counts_E.mean()).sign())


def test_loads_are_told_to_who_asks():
    """load_balance_std is 0 and expert_utilization 1 where all are met alike; one favourite shows in both."""
    block, x = experts(count=4, top=1, router={"renormalise": False, "bias": True}), inputs()
    assert block.router is not None
    assert block.router_bias is not None
    with torch.no_grad():
        block.router.zero_()
        block.router_bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0]))
    flow = Flow(figures={})
    block(x, flow)
    assert flow.figures is not None
    assert flow.figures["expert_utilization"][0] == 0.25
    torch.testing.assert_close(float(flow.figures["load_balance_std"][0]), math.sqrt(3.0))


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"count": 4, "top": 5}, "EVO307", "cannot meet 5 of 4"),
        ({"top": 1}, "EVO307", "always 1"),
        ({"router": {"groups": 3}}, "EVO307", "do not divide 8"),
        ({"router": {"groups": 2, "top_groups": 3}}, "EVO307", "there are 2 groups"),
        ({"top": 3, "router": {"groups": 4, "top_groups": 1}}, "EVO307", "fewer than 3"),
        ({"router": {"score": "alike"}}, "EVO307", "nothing to choose by"),
        ({"router": {"choose": "hash", "choice_bias": True}}, "EVO307", "the token's id chooses"),
        ({"identity": 1, "router": {"choose": "hash"}}, "EVO307", "not idle classes"),
        ({"constant": 1, "router": {"choose": "table"}}, "EVO307", "not idle classes"),
        ({"router": {"top_p": 0.5, "score": "sigmoid"}}, "EVO307", "best by softmax"),
        ({"router": {"top_p": 0.5, "choose": "each_expert"}}, "EVO307", "best by softmax"),
        ({"top": 1, "router": {"top_p": 0.5, "renormalise": False}}, "EVO307", "one expert whatever"),
        ({"router": {"choose": "hash", "score": "alike", "logits_to": "r"}}, "EVO307", "neither gives nor adds"),
        ({"router": {"choose": "table", "groups": 2}}, "EVO307", "the token's id chooses"),
        ({"router": {"norm": {"kind": "rms", "groups": 3}}}, "EVO303", "3 groups do not divide 16"),
        ({"router": {"score": "alike", "choose": "hash", "norm": {"kind": "rms"}}}, "EVO307", "reads nothing"),
        ({"of": {"kind": "experts"}}, "EVO307", "cannot be made of 'experts'"),
        ({"of": {"kind": "none"}}, "EVO307", "cannot be made of 'none'"),
        ({"shared": [{"ffn": {"kind": "none"}}]}, "EVO307", "builds nothing"),
        ({"router": {"causal": False}}, "EVO330", "only where experts choose"),
        ({"router": {"capacity": 9.0}}, "EVO330", "no expert can get more"),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, Any], code: str, words: str):
    """Impossible and idle settings are diagnostics at their place."""
    ffn = {"kind": "experts", **settings}
    body = {"width": 16, "context": 24, "stages": [{"name": "s", "mix": {"kind": "convolution"}, "ffn": ffn}]}
    try:
        found = check(from_data({"evo": 1, "organism": body}))
    except DiagnosticError as error:
        found = error.diagnostics
    assert any(d.code == code and words in d.message for d in found), found


def test_a_capacity_has_a_limit() -> None:
    """A number so large that no count of tokens is made of it is refused where it is written."""
    with pytest.raises(DiagnosticError, match="EVO20"):
        document([stage("a", {"kind": "convolution"}, ffn={"kind": "experts", "router": {"capacity": 1e308}})])
