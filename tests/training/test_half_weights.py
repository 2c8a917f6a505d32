"""Copies of weights in half precision: what is read through them learns what it learns without."""

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from launches import Launches
from tiny_models import model
from torch import Tensor, nn

from evo.blocks.flow import Flow, Project
from evo.blocks.pool.module import Pool
from evo.kernels.fused.project import project
from evo.training.half_weights import HalfWeights
from evo.training.side_stream import SideStream

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]


POOL = {"kind": "pool", "slots": 4, "alive": 3, "of": {"kind": "attention", "heads": 1, "head_dim": 4}}


def pool_of(device: str) -> Pool:
    """A pool of four slots, one of them empty."""
    (pool,) = (block for block in model(POOL, stage={"repeat": 1}).to(device).modules() if isinstance(block, Pool))
    with torch.no_grad():
        pool.gain[:3] = torch.tensor([0.5, 1.0, 2.0])
    return pool


def learn(half: HalfWeights, weights: Any, loss: Any) -> None:
    """One pass forward and back."""
    for weight in weights:
        weight.grad = None
    half.begin()
    value = loss()
    half.end_forward()
    value.backward()
    half.freeze_groups()
    half.collect()


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_made_aside_are_autocasts(device: str) -> None:
    """Weights read together, twice, or by an embedding too get the gradients that autocast gives, within rounding."""
    torch.manual_seed(0)
    tied, left, right, twice = (nn.Parameter(torch.randn(64, 64, device=device) / 8) for _ in range(4))
    tokens = torch.arange(96, device=device) % 64

    def loss(through: Project) -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            x = F.embedding(tokens, tied)
            y = through(x, left) * through(x, right)
            y = through(through(y, twice), twice)
            return through(y, tied).float().square().mean()

    weights = [tied, left, right, twice]
    wanted = torch.autograd.grad(loss(project), weights)
    half = HalfWeights(torch.bfloat16, SideStream(torch.device(device)))
    for _ in range(3):
        learn(half, weights, lambda: loss(half))
        for weight, want in zip(weights, wanted, strict=True):
            assert weight.grad is not None
            assert (weight.grad - want).norm() < 1e-2 * want.norm()
    assert left in half.copies


@pytest.mark.parametrize("device", DEVICES)
def test_folded_gains_of_a_pool_learn_what_gains_of_activations_do(device: str) -> None:
    """A pool's output and every gradient, those of its gains and of its input too; an empty slot learns nothing."""
    pool = pool_of(device)
    x_BTD = torch.randn(2, 6, 16, device=device, generator=torch.Generator(device).manual_seed(1)).requires_grad_()
    leaves: dict[str, Tensor] = {**dict(pool.named_parameters()), "x": x_BTD}
    wanted = pool(x_BTD, Flow())
    gradients = torch.autograd.grad(wanted.square().sum(), list(leaves.values()))
    half = HalfWeights(torch.float32, SideStream(torch.device(device)))
    for _ in range(3):
        learn(half, leaves.values(), lambda: pool(x_BTD, Flow(project=half)).square().sum())
        found = pool(x_BTD, Flow(project=half))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        for (path, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            torch.testing.assert_close(leaf.grad, gradient, rtol=1e-4, atol=1e-5, msg=path)
    assert pool.gain.grad is not None
    assert float(pool.gain.grad[3]) == 0.0


def test_a_pools_gains_cost_one_launch_on_the_way() -> None:
    """Forward, a pool launches one operation more than the attention that its slots are, side by side."""
    pool = pool_of("cpu")
    half = HalfWeights(torch.float32, SideStream(torch.device("cpu")))
    flow, x_BTD = Flow(project=half), torch.randn(2, 6, 16)
    learn(half, pool.parameters(), lambda: pool(x_BTD, flow).sum())
    with Launches() as attention:
        pool.mixers[0](x_BTD, flow)
    with Launches() as both:
        pool(x_BTD, flow)
    assert both.on_the_way - attention.on_the_way == Counter({"mul": 1})
