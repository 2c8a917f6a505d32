"""Experts of which tokens meet as many as they need, against papers' equations: values and gradients of all weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, inputs, plan, token_ids
from torch import Tensor

from evo.blocks.flow import Flow
from evo.dsl.spec import TOKENS

ONE: dict[str, Any] = {"kind": "gated", "hidden": 8}
Weights = Mapping[str, Tensor]


def blocks(*ffns: dict[str, Any]) -> list[Any]:
    """Feed-forwards of one layer, with large weights."""
    whole = plan(
        [{"name": "s", "layers": {"sublayers": [{"block": {"kind": "experts", "of": ONE, **f}} for f in ffns]}}]
    )
    found = [built(block_of(whole, str(index))) for index in range(len(ffns))]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in (weight for block in found for weight in block.parameters()):
            weight.copy_(torch.randn(weight.shape, generator=generator).to(weight.dtype))
    return found


def compare(block: Any, theirs: Callable[[Weights, Tensor], Tensor], flow: Flow, wanted_loss: float = 0.0) -> None:
    """Values, and gradients of all weights."""
    w, x = dict(block.named_parameters()), inputs()
    ours, expected = block(x, flow), theirs(w, x)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    cotangent = inputs(seed=4)
    got, wanted = (
        torch.autograd.grad((y * cotangent).sum(), list(w.values()), allow_unused=True) for y in (ours, expected)
    )
    for name, one, other in zip(w, got, wanted, strict=True):
        zeros = torch.zeros_like(w[name])
        torch.testing.assert_close(zeros if one is None else one, zeros if other is None else other, msg=name)
    assert wanted_loss == 0.0 or float(flow.losses["router_entropy"].detach()) == pytest.approx(wanted_loss)


def expert(w: Weights, index: int, x: Tensor) -> Tensor:
    """A gated feed-forward of the stack."""
    hidden = F.silu(x @ w["routed.gate"][index].T) * (x @ w["routed.up"][index].T)
    return hidden @ w["routed.down"][index].T


@pytest.mark.parametrize("renormalise", [True, False])
def test_the_best_experts_up_to_a_mass(renormalise: bool):
    """A token meets the fewest best experts whose probabilities sum to p or more, at most `top` (Huang et al.
    2403.07652, equations 4 and 5), and the entropy of these is a loss (equation 6)."""
    mass, top, count = 0.7, 3, 5
    router = {"top_p": mass, "renormalise": renormalise, "entropy": 0.1}
    (block,) = blocks({"count": count, "top": top, "router": router})

    def shares(w: Weights, x: Tensor) -> Tensor:
        found = (x @ w["router"].T).softmax(-1)
        kept = torch.zeros_like(found)
        for row, scores in zip(kept.flatten(0, 1), found.detach().flatten(0, 1), strict=True):
            total = 0.0
            for e in scores.argsort(descending=True)[:top].tolist():
                row[e] = 1.0
                total += float(scores[e])
                if total >= mass:
                    break
        assert 1.0 < float(kept.sum(-1).mean()) < top  # some tokens meet fewer, some more
        found = found * kept
        return found / found.sum(-1, keepdim=True) if renormalise else found

    def theirs(w: Weights, x: Tensor) -> Tensor:
        own = shares(w, x)
        return torch.stack([own[..., e, None] * expert(w, e, x) for e in range(count)]).sum(0)

    with torch.no_grad():
        block.router.div_(4.0)  # so that no expert has it all
        logs = (inputs() @ block.router.T).log_softmax(-1)
    compare(block, theirs, Flow(), float(-0.1 * (logs.exp() * logs).sum(-1).mean()))


def test_constants_and_logits_of_the_layer_before():
    """MoE++ (Jin et al. 2410.07348): zero, copy and constant experts (equations 2 to 4), and in the second layer logits
    W x + W_g times those of the first (equation 6)."""
    idle = {"count": 3, "top": 3, "identity": 1, "skip": 1, "constant": 2}
    first, second = blocks(
        {**idle, "router": {"logits_to": "r"}}, {**idle, "router": {"logits_from": "r", "renormalise": False}}
    )

    def logits_of_first(x: Tensor) -> Tensor:
        return x @ first.router.detach().T

    def theirs(w: Weights, x: Tensor) -> Tensor:
        scores = (x @ w["router"].T + logits_of_first(x) @ w["earlier_logits"].T).softmax(-1)
        chosen = scores.topk(3, -1).indices
        shares = torch.zeros_like(scores).scatter(-1, chosen, scores.gather(-1, chosen))
        mixes = (x @ w["constant_mix"].T).unflatten(-1, (2, 2)).softmax(-1)
        parts = [expert(w, e, x) for e in range(3)] + [x, torch.zeros_like(x)]
        parts += [mixes[..., c, :1] * x + mixes[..., c, 1:] * w["constant"][c] for c in range(2)]
        return sum((shares[..., e, None] * part for e, part in enumerate(parts)), torch.zeros_like(x))

    flow = Flow()
    with torch.no_grad():
        first(inputs(), flow)
    compare(second, theirs, flow)


@pytest.mark.parametrize("choose", ["hash", "table"])
def test_routers_by_token_read_earlier_logits(choose: str):
    """They weigh what a token's id chose, and every weight learns."""
    routers = {"logits_to": "r", "choose": choose}, {"logits_from": "r", "choose": choose}
    first, second = blocks(*({"count": 3, "top": 2, "router": router} for router in routers))
    flow = Flow(signals={TOKENS: token_ids(inputs())})
    first(inputs(), flow)
    y = second(inputs(), flow)
    for gradient in torch.autograd.grad(y.square().sum(), [second.router, second.earlier_logits]):
        assert gradient.abs().max() > 0
