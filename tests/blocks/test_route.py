"""Routed mixers: each computes its own tokens alone, a token costs what its mixers cost, and the loss is Switch's."""

from __future__ import annotations

import pytest
import torch
from block_variants import (
    CONTEXT,
    CONVOLUTION,
    RECURRENCE,
    Whole,
    block_of,
    built,
    document,
    inputs,
    mixer_plan,
    plan,
    stage,
    window,
)

from evo.blocks.flow import Flow
from evo.blocks.route.module import Route
from evo.blocks.subsequence import Subsequence
from evo.dsl.plan import matmul_flops

NEAR = {"kind": "attention", "heads": 4}


def route(*mixers: object, **settings: object) -> Route:
    """The block in float64."""
    block = built(block_of(plan([stage("s", {"route": list(mixers), **settings})]), "mixer"))
    assert isinstance(block, Route)
    Whole(block)  # gives the blocks in it their paths
    return block


def by_hand(block: Route, x_BTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What each row's mixers make of the tokens sent to them, alone; and who is sent where, (B, T, E)."""
    logits_BTE = x_BTD @ block.router.T / block.plan.temperature
    shares_BTE = logits_BTE.softmax(-1)
    sent_BTE = torch.zeros_like(shares_BTE).scatter(-1, shares_BTE.topk(block.plan.top, -1).indices, 1.0).bool()
    rows: list[torch.Tensor] = []
    for x_TD, shares_TE, sent_TE in zip(x_BTD, shares_BTE, sent_BTE, strict=True):
        total_TD = torch.zeros_like(x_TD)
        for index, mixer in enumerate(block.mixers):
            at = sent_TE[:, index].nonzero().flatten()
            if len(at):
                y_ND = mixer(x_TD[None, at], Flow())[0] * shares_TE[at, index, None]
                total_TD = total_TD.index_add(0, at, y_ND)
        rows.append(total_TD)
    return torch.stack(rows), sent_BTE


@pytest.mark.parametrize("top", [1, 2, 3])
def test_a_mixer_computes_its_tokens_alone(top: int) -> None:
    """Values and gradients are those of each mixer run on the tokens it is sent alone, whatever fills the rows."""
    block, x = route(window(5, 1), RECURRENCE, CONVOLUTION, top_k=top, temperature=0.7, balance=0.0), inputs()
    expected, sent_BTE = by_hand(block, x)
    y = block(x, Flow())
    assert len(set(sent_BTE.sum(1).flatten().tolist())) > 1 or top == 3
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-11)
    cotangent, parameters = inputs(seed=5), list(block.parameters())
    ours = torch.autograd.grad((y * cotangent).sum(), parameters)
    theirs = torch.autograd.grad((expected * cotangent).sum(), parameters, allow_unused=True)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if two is None else two, rtol=1e-8, atol=1e-10)


def test_the_balance_is_that_of_switch() -> None:
    """The loss equals transformers' for Switch's router, and its gradient pulls the favourite's logit down."""
    oracle = pytest.importorskip("transformers.models.switch_transformers.modeling_switch_transformers")
    block, x = route(NEAR, CONVOLUTION, {**CONVOLUTION, "size": 2}, balance=0.25), inputs(batch=1)
    flow = Flow()
    block(x, flow)
    shares_BTE = (x @ block.router.T).softmax(-1)
    expected = oracle.load_balancing_loss_func(shares_BTE.float(), shares_BTE.argmax(-1))
    torch.testing.assert_close(flow.losses["balance"].float() / 0.25, expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(flow.losses["balance"], block.router)
    assert gradient.abs().max() > 1e-6


def test_a_token_costs_what_its_mixers_cost() -> None:
    """The plan counts the share of tokens that each mixer gets, over sequences so much shorter."""
    whole, one = mixer_plan("route to all"), plan([stage("s", {"route": [NEAR, RECURRENCE]})])
    sparse = block_of(one, "mixer")
    alone = [block_of(plan([stage("s", mix)], context=CONTEXT // 2), "mixer").flops for mix in (NEAR, RECURRENCE)]
    router = matmul_flops(sparse.weights) + 2.0 * 16
    assert sparse.flops == pytest.approx(router + sum(alone) / 2)
    assert sparse.flops < 0.6 * whole.flops
    assert sparse.parameters == whole.parameters
    assert one.cache_per_token < plan([stage("s", {"route": [NEAR, RECURRENCE], "top_k": 2})]).cache_per_token


def test_few_tokens_are_few_rows() -> None:
    """A mixer is run on the most tokens that any row sends it, not on all."""
    lengths = list[int]()
    block, x = route(NEAR, CONVOLUTION), inputs()
    expected = by_hand(block, x)[1].sum(1).amax(0).tolist()
    for mixer in block.mixers:
        mixer.register_forward_hook(lambda _, args, y: lengths.append(args[0].shape[1]))
    block(x, Flow())
    assert lengths == expected
    assert max(lengths) < CONTEXT


def test_use_is_told_to_who_asks() -> None:
    """Where all tokens go to one of three mixers, a third of them is used."""
    block, flow = route(NEAR, CONVOLUTION, RECURRENCE), Flow(figures={})
    with torch.no_grad():
        block.router.zero_()
        block.router[1] = 1.0
    block(inputs().abs(), flow)
    assert flow.figures is not None
    assert float(flow.figures["route_utilization"][0]) == pytest.approx(1 / 3)
    assert float(flow.figures["route_balance_std"][0]) == pytest.approx(2**0.5)


def test_the_refused_block_is_named() -> None:
    """Whatever adds a loss of its own: a route does, and so does attention whose spans are learned."""
    for inner, kind in (({"route": [NEAR, CONVOLUTION]}, "route"), ({**NEAR, "span": {"soft": 4}}, "learned spans")):
        with pytest.raises(AssertionError, match=f"a loss of '{kind}' would be"):
            plan([stage("s", {"route": [inner, CONVOLUTION]})])


def test_what_a_route_cannot_hold_is_refused() -> None:
    """Mixers that see the future, share keys, or balance tokens themselves, and more choices than mixers."""
    for bad in (
        {"route": [{**NEAR, "kv_to": "a"}, CONVOLUTION]},
        {"route": [{"route": [NEAR, CONVOLUTION]}, CONVOLUTION]},
        {"route": [{**NEAR, "causal": False}, CONVOLUTION]},
        {"route": [NEAR, CONVOLUTION], "top_k": 3},
    ):
        with pytest.raises(AssertionError, match="EVO350"):
            document([stage("s", bad)])


def test_sent_tokens_come_first_and_go_back() -> None:
    """Taking and giving back leaves the sent tokens as they were, in their order."""
    is_sent_BT = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 1, 0]]).bool()
    x_BTD = torch.arange(20.0).reshape(2, 5, 2)
    sent = Subsequence.of(is_sent_BT)
    assert sent.order_BN[0].tolist() == [1, 2, 4]
    assert sent.order_BN[1, 0] == 3
    assert torch.equal(sent.back(sent.take(x_BTD))[is_sent_BT], x_BTD[is_sent_BT])
