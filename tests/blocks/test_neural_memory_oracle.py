"""Neural memory against titans-pytorch, and token by token against autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import WIDTH, block_of, built, inputs, plan
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow

HEADS, TIME = 2, 23


def our(**settings: Any) -> Block:
    """A memory of two heads in float64, with moved weights."""
    block = {"kind": "memory", "heads": HEADS, **settings}
    return built(block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": block}]}}]), "0"))


def close(mine: Tensor, wanted: Tensor, mine_of: list[Tensor], their_of: list[Tensor]) -> None:
    """Values, and gradients of what both are made of."""
    torch.testing.assert_close(mine, wanted, rtol=1e-8, atol=1e-9)
    cotangent = torch.randn(mine.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pairs = (torch.autograd.grad((y * cotangent).sum(), x) for y, x in ((mine, mine_of), (wanted, their_of)))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a.flatten(), b.flatten(), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("momentum", [True, False])
def test_titans_pytorch(depth: int, momentum: bool) -> None:
    """The neural memory of titans-pytorch that refreshes its weights every `chunk` tokens."""
    titans = pytest.importorskip("titans_pytorch", reason="the oracle titans-pytorch is not installed")
    chunk, dim = 6, WIDTH // HEADS
    ours = our(depth=depth, chunk=chunk, momentum=momentum, qk_norm=False, rate=0.7)
    theirs = titans.NeuralMemory(
        WIDTH,
        chunk_size=1,
        batch_size=chunk,
        dim_head=dim,
        heads=HEADS,
        model=titans.MemoryMLP(dim, depth, expansion_factor=2.0),
        default_step_transform_max_lr=0.7,
        momentum=momentum,
        pre_rmsnorm=False,
        activation=nn.SiLU(),
        mem_model_norm_add_residual=False,
    ).double()
    named = dict(ours.named_parameters())
    pairs = {
        "q": theirs.to_queries[0].weight,
        "k": theirs.to_keys[0].weight,
        "v": theirs.to_values[0].weight,
        "step": theirs.to_adaptive_step[0].weight,
        "step_bias": theirs.to_adaptive_step[0].bias,
        "forget": theirs.to_decay_factor[0].weight,
        "forget_bias": theirs.to_decay_factor[0].bias,
        "gate": theirs.retrieve_gate[0].weight,
        "o": theirs.combine_heads.weight,
    }
    if momentum:
        pairs |= {"keep": theirs.to_momentum[0].weight, "keep_bias": theirs.to_momentum[0].bias}
    with torch.no_grad():
        for name, parameter in pairs.items():
            parameter.copy_(named[name])
        for index in range(depth):
            theirs.memory_model_parameters[index].copy_(named[f"memory_{index}"].mT)
    x = inputs(TIME)
    mine_x, their_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted, _ = theirs(their_x)
    close(ours(mine_x, Flow()), wanted, [mine_x, *(named[n] for n in pairs)], [their_x, *pairs.values()])


@pytest.mark.parametrize("depth", [1, 2])
def test_token_by_token_by_autograd(depth: int) -> None:
    """Equations 10 and 13 one token after another, the gradient by autograd at the weights before its chunk."""
    chunk, time = 3, 8
    module, x = our(depth=depth, chunk=chunk, dim=4, rate=1.0), inputs(time, batch=1)
    named, outputs = dict(module.named_parameters()), torch.zeros(1, time, HEADS * 4, dtype=torch.float64)
    for head in range(HEADS):
        rows = slice(4 * head, 4 * head + 4)
        q, k, v = (F.silu(x[0] @ named[name][rows].T) for name in ("q", "k", "v"))
        q, k = (part / (part.square().sum(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
        control = {n: (x[0] @ named[n][head] + named[f"{n}_bias"][head]).sigmoid() for n in ("step", "forget", "keep")}
        weights = [named[f"memory_{index}"][head].detach() for index in range(depth)]
        momenta = [torch.zeros_like(weight) for weight in weights]
        held = weights
        for t in range(time):
            if t % chunk == 0:
                held = [weight.detach().requires_grad_() for weight in weights]
            loss = (recalled(k[t].detach(), held) - v[t].detach()).square().mean()
            gradients = torch.autograd.grad(loss, held)
            both = zip(momenta, gradients, strict=True)
            momenta = [control["keep"][t].detach() * m - control["step"][t].detach() * g for m, g in both]
            weights = [(1 - control["forget"][t].detach()) * w + m for w, m in zip(weights, momenta, strict=True)]
            outputs[0, t, rows] = recalled(q[t].detach(), weights)
    gates = (x @ named["gate"].T).sigmoid().repeat_interleave(4, -1)
    wanted = (outputs * gates) @ named["o"].T
    torch.testing.assert_close(module(x, Flow()), wanted, rtol=1e-9, atol=1e-10)


def recalled(x: Tensor, weights: list[Tensor]) -> Tensor:
    """What a memory gives for a key or query."""
    for index, weight in enumerate(weights):
        x = weight @ (F.gelu(x) if index else x)
    return x


@pytest.mark.parametrize(("rate", "is_finite"), [({}, True), ({"rate": 3.0}, False)], ids=["by default", "too fast"])
def test_a_memory_of_two_layers_stays_finite(rate: dict[str, float], is_finite: bool) -> None:
    """Gradient descent inside a memory explodes at large steps, and not at those of the default."""
    block = our(depth=2, **rate).float()
    y = Flow().run(block, inputs(512, batch=8).float())
    assert bool(y.isfinite().all()) == is_finite
