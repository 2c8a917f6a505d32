"""A choice of whole blocks by their mean keys: against loops that say it plainly, and against Qwen4-Exp's indexer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, Whole, block_of, built, inputs, plan, stage
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.select.module import Asked, Select
from evo.blocks.select.pooled.whole import WholeBlocksSelect
from evo.compiler.check import check
from evo.dsl.document import from_data
from evo.kernels.attention import Stencil, attend

SIZE, TOP, HEADS, DIM = 3, 2, 6, 4
SELECT = {
    "kind": "whole_blocks",
    "size": SIZE,
    "top": TOP,
    "heads": HEADS,
    "dim": DIM,
    "norm": {"kind": "rms", "eps": 1e-3},
}
ATTENTION = {"kind": "attention", "heads": 2, "position": {"kind": "none"}}


def attention(select: dict[str, Any], **settings: Any) -> Block:
    """An attention over whole blocks."""
    mix = {**ATTENTION, **settings, "select": {**SELECT, **select}}
    return built(block_of(plan([stage("s", mix)], position={"kind": "none"}), "mixer"))


def chosen_plainly(module: Block, x_TD: Tensor, *, weighs: bool) -> Tensor:
    """Which tokens each query meets, (T, T), token by token."""
    q, k = (module.get_parameter(f"select.index.{name}") for name in ("q", "entries.maps"))
    gain = module.get_parameter("select.index.entries.norm.gain")
    seen = torch.zeros(len(x_TD), len(x_TD), dtype=torch.bool)
    for t in range(len(x_TD)):
        whole = (t + 1) // SIZE
        scores = []
        for block in range(whole):
            mean = F.linear(x_TD[block * SIZE : (block + 1) * SIZE].mean(0), k)
            key = F.rms_norm(mean, (DIM,), gain, 1e-3)
            products = (F.linear(x_TD[t], q).view(HEADS, DIM) @ key).relu()
            shares = F.linear(x_TD[t], module.get_parameter("select.index.weigh")) if weighs else torch.ones(HEADS)
            scores.append(float((products * shares).sum()) / math.sqrt(DIM))
        for block in sorted(range(whole), key=lambda b: (-scores[b], b))[:TOP]:
            seen[t, block * SIZE : (block + 1) * SIZE] = True
        seen[t, whole * SIZE : t + 1] = True
    return seen


@pytest.mark.parametrize("weighs", [False, True])
def test_attention_meets_the_best_whole_blocks(weighs: bool) -> None:
    """Outputs and gradients are those of torch's attention over what loops choose."""
    module, x = attention({"weigh": weighs}), inputs(batch=1).requires_grad_()
    q, k, v = (F.linear(x, module.get_parameter(name)).unflatten(-1, (2, -1)).transpose(1, 2) for name in "qkv")
    with torch.no_grad():
        seen = chosen_plainly(module, x[0], weighs=weighs)
    wanted = F.linear(
        F.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).flatten(2), module.get_parameter("o")
    )
    got = Whole(module)(x)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
    weights = [x, *(module.get_parameter(name) for name in "qkvo")]
    both = [torch.autograd.grad((y * inputs(batch=1, seed=4)).sum(), weights, retain_graph=True) for y in (got, wanted)]
    torch.testing.assert_close(*both, rtol=1e-8, atol=1e-10)


def test_counted_pairs_are_met() -> None:
    """As many pairs are left as the cost counts."""
    select = attention({}).child("select")
    assert isinstance(select, Select)
    x = inputs(batch=1)
    q, units = x.new_zeros(1, CONTEXT, 2, 4), torch.eye(CONTEXT, dtype=x.dtype)[None, :, None].expand(-1, -1, 2, -1)
    met = select.attended(Asked(x, x, q, q, units, attend, 0.5), Stencil(), Flow()) > 0
    spec = WholeBlocksSelect.model_validate(
        {key: value for key, value in SELECT.items() if key not in ("kind", "norm")}
    )
    assert set(met.sum((0, 1, 3)).tolist()) == {spec.pairs(CONTEXT)}


def test_its_loss_teaches_the_index_alone() -> None:
    """It is positive, finite where no block is whole yet, and its gradient reaches the index and nothing else."""
    whole = Whole(attention({"weigh": True}))
    _, loss = whole.pass_(inputs())
    named = dict(whole.named_parameters())
    gradients = torch.autograd.grad(loss, [*named.values()], allow_unused=True)
    taught = {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}
    assert taught == {name for name in named if name.startswith("select.")}
    assert all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)
    assert float(loss.detach()) > 0


def test_blocks_that_are_never_whole_are_told() -> None:
    """EVO360, at the selection."""
    mix = {**ATTENTION, "select": {"kind": "whole_blocks", "size": 40, "top": 1}}
    found = check(from_data({"evo": 1, "organism": {"width": 16, "context": 32, "stages": [stage("s", mix)]}}))
    assert [diagnostic.code for diagnostic in found if diagnostic.severity == "error"] == ["EVO360"]
