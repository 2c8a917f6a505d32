"""A pool: its slots in one product are its slots one by one, and an empty slot is nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from block_variants import ATTENTION, CONVOLUTION, RECURRENCE, block_of, built, inputs, plan, window

from evo.blocks.flow import Flow
from evo.blocks.pool.module import Pool
from evo.blocks.pool.spec import PoolPlan

TOGETHER: dict[str, Any] = {
    "heads": {**ATTENTION, "heads": 2, "head_dim": 4},
    "grouped, biased, gated": {
        **window(5, 1), "heads": 2, "kv_heads": 1, "bias": ["q", "v"], "gate": "head", "sink_logit": True,
    },
    "wide values": {**ATTENTION, "heads": 1, "value_dim": 6, "soft_cap": 2.0},
}  # fmt: skip
APART: dict[str, Any] = {
    "a norm of all heads": {**ATTENTION, "qk_norm": "rms"},
    "slopes by head": {**ATTENTION, "position": {"kind": "alibi"}},
    "one bias for all": {**ATTENTION, "bias": True},
    "differential": {**ATTENTION, "differ": 0.3},
    "convolution": CONVOLUTION,
    "two mixers": {"parallel": [CONVOLUTION, RECURRENCE]},
}
SLOTS = 4


def pool(of: dict[str, Any], **settings: Any) -> Pool:
    """A pool in float64."""
    document = plan([{"name": "s", "mix": {"kind": "pool", "slots": SLOTS, "of": of, **settings}}])
    return cast(Pool, built(block_of(document, "mixer")))


def alone(whole: Pool, of: dict[str, Any], slot: int) -> torch.nn.Module:
    """The mixer of one slot as a block of its own, with that slot's weights."""
    module = built(block_of(plan([{"name": "s", "mix": of}]), "mixer"))
    own = whole.slot_tensors({path: p.detach() for path, p in whole.named_parameters()})[slot]
    assert own.keys() == {path for path, _ in module.named_parameters()}
    module.load_state_dict(own)
    return module


@pytest.mark.parametrize("name", TOGETHER)
def test_slots_in_one_product_are_slots_one_by_one(name: str) -> None:
    """The pool computes sum_p gain_p f_p(x) for blocks f_p with the slots' shares of the weights; values, gradients."""
    whole, x_BTD = pool(TOGETHER[name]), inputs()
    assert whole.plan.side_by_side
    parts = [alone(whole, TOGETHER[name], slot) for slot in range(SLOTS)]
    expected = sum(gain * part(x_BTD, Flow()) for gain, part in zip(whole.gain, parts, strict=True))
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(whole(x_BTD, Flow()), expected, rtol=1e-10, atol=1e-12)
    cotangent = inputs(seed=4)
    (expected * cotangent).sum().backward()
    gains = whole.gain.grad
    whole.gain.grad = None
    (whole(x_BTD, Flow()) * cotangent).sum().backward()
    torch.testing.assert_close(whole.gain.grad, gains)
    shares = whole.slot_tensors({path: cast(torch.Tensor, p.grad) for path, p in whole.named_parameters()})
    for share, part in zip(shares, parts, strict=True):
        torch.testing.assert_close(share, {path: p.grad for path, p in part.named_parameters()})


@pytest.mark.parametrize("name", APART)
def test_what_slots_would_share_keeps_them_apart(name: str) -> None:
    """Where a norm, a bias or slopes would be one for all slots, each slot is a mixer of its own."""
    whole = pool(APART[name])
    assert not whole.plan.side_by_side
    assert len(whole.mixers) == SLOTS


STACKED: dict[str, Any] = {
    **APART,
    "recurrence": RECURRENCE,
    "pool of pools": {"kind": "pool", "slots": 2, "of": CONVOLUTION},
    "route with a loss": {"route": [ATTENTION, CONVOLUTION], "top_k": 1, "balance": 0.01},
}


@pytest.mark.parametrize("name", STACKED)
def test_slots_over_stacked_weights_are_slots_one_by_one(name: str) -> None:
    """A training step runs the slots as one: values, gradients, losses and figures are those of each by itself."""
    whole, x_BTD = pool(STACKED[name]), inputs()
    found, calls = list[tuple[Any, ...]](), list[int]()
    for mixer in whole.mixers:
        mixer.register_forward_pre_hook(lambda *_: calls.append(1))
    for seed in (None, torch.zeros((), dtype=torch.int64)):
        whole.zero_grad()
        flow = Flow(seed=seed, figures={})
        before = len(calls)
        y_BTD = whole(x_BTD, flow)
        assert len(calls) - before == (SLOTS if seed is None else 1)
        (y_BTD.square().sum() + sum(flow.losses.values())).backward()
        gradients = {path: torch.zeros_like(p) if p.grad is None else p.grad for path, p in whole.named_parameters()}
        found.append((y_BTD.detach(), gradients, flow.losses, flow.figures))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("of", [TOGETHER["heads"], APART["convolution"], APART["two mixers"]], ids=str)
def test_each_slot_can_run_by_itself(of: dict[str, Any]) -> None:
    """Rows p and p + P of `apart` are f_p of these rows, whatever the gains; what enters its output maps is told."""
    whole, x_RTD = pool(of), inputs(batch=2 * SLOTS)
    found = whole.apart(x_RTD, Flow())
    for slot in range(SLOTS):
        expected = alone(whole, of, slot)(x_RTD[slot::SLOTS], Flow())
        torch.testing.assert_close(found.outputs_RTD[slot::SLOTS], expected, rtol=1e-10, atol=1e-12)
    assert {h_PNC.shape[:2] for h_PNC in found.hidden} == {(SLOTS, x_RTD.shape[1])}


@pytest.mark.parametrize("of", [*TOGETHER.values(), CONVOLUTION], ids=[*TOGETHER, "apart"])
def test_squares_are_summed_by_slot(of: dict[str, Any]) -> None:
    """Over each slot's share of every weight, along whichever axis the slots lie."""
    whole = pool(of)
    tensors = {path: p.detach() for path, p in whole.named_parameters()}
    expected = [sum(float(t.square().sum()) for t in own.values()) for own in whole.slot_tensors(tensors)]
    torch.testing.assert_close(whole.slot_squares(tensors).tolist(), expected)


@pytest.mark.parametrize("of", [TOGETHER["heads"], CONVOLUTION], ids=["together", "apart"])
def test_an_empty_slot_is_nothing(of: dict[str, Any]) -> None:
    """A gain of 0 takes a slot out: it neither adds nor learns; the others stay as they are."""
    whole, x_BTD = pool(of), inputs()
    with torch.no_grad():
        whole.gain[1] = 0.0
    kept = [alone(whole, of, slot) for slot in (0, 2, 3)]
    y_BTD = whole(x_BTD, Flow())
    gains = whole.gain.detach()[[0, 2, 3]]
    expected = torch.stack([gain * part(x_BTD, Flow()) for gain, part in zip(gains, kept, strict=True)]).sum(0)
    torch.testing.assert_close(y_BTD, expected, rtol=1e-10, atol=1e-12)
    y_BTD.square().sum().backward()
    shares = whole.slot_tensors({path: cast(torch.Tensor, p.grad) for path, p in whole.named_parameters()})
    largest = [max(float(gradient.abs().max()) for gradient in share.values()) for share in shares]
    assert [size > 0 for size in largest] == [True, False, True, True]
    assert whole.gain.grad is not None
    assert float(whole.gain.grad[1]) == 0.0


def test_pseudopods_start_as_one_mixer_of_all() -> None:
    """The first `alive` slots have a gain, such that the sum has the size of one mixer's output."""
    plans = [
        cast(
            PoolPlan,
            block_of(plan([{"name": "s", "mix": {"kind": "pool", "slots": 4, "alive": 2, "of": of}}]), "mixer"),
        )
        for of in (TOGETHER["heads"], CONVOLUTION)
    ]
    assert [(p.weights[0].init.a, p.weights[0].init.b) for p in plans] == [(2, 2.0**0.5), (2, 0.5**0.5)]
