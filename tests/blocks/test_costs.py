"""What a plan counts is what is built and computed."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from block_variants import (
    BY_CHOICE,
    CONTEXT,
    MIXERS,
    Whole,
    block_of,
    built,
    inputs,
    mixer,
    mixer_plan,
    organism,
    plan,
    stage,
    token_ids,
)
from ffn_variants import FFNS, STATEFUL_FFNS
from flip_hosts import FLOW, SLOW
from torch.utils.flop_counter import FlopCounterMode

from evo.blocks.attention.plan import AttentionPlan
from evo.blocks.attention.stencils import (
    BlockStencil,
    DilatedStencil,
    FullStencil,
    RingStencil,
    StencilSpec,
    WindowStencil,
)
from evo.blocks.flow import Flow
from evo.blocks.kan.spec import KanPlan
from evo.blocks.product_keys.spec import ProductKeysPlan
from evo.dsl.index import kind_class
from evo.dsl.plan import BlockPlan, matmul_flops
from evo.dsl.spec import INPUT, TOKENS
from evo.kernels.attention import Stencil
from evo.kernels.fused.project import project
from evo.kernels.grouped import Groups
from evo.report.explain import rows, to_data

EVERY_MIXER = pytest.mark.parametrize("name", [*MIXERS, *STATEFUL_FFNS])
EVERY_FIXED = pytest.mark.parametrize("name", [name for name in [*MIXERS, *STATEFUL_FFNS] if name not in BY_CHOICE])


class Stacked:
    """A `Project` that counts operations with stacks of matrices that each meet a part of the input of its own."""

    def __init__(self) -> None:
        self.flops = 0

    def __call__(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, groups: Groups | None = None
    ) -> torch.Tensor:
        if weight.ndim == 3 and groups is None:
            self.flops += 2 * x.numel() * weight.shape[1]
        return project(x, weight, bias, groups)


def linear_flops(module: Whole, x: torch.Tensor) -> int:
    """What torch counts for products of activations with two-dimensional matrices, and what stacks take, which it
    cannot tell from other products of batches."""
    stacked = Stacked()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Flow(signals={TOKENS: token_ids(x), INPUT: x}, project=stacked).run(module.block, x)
    counts = counter.get_flop_counts().get("Global", {})
    return (
        sum(count for operation, count in counts.items() if str(operation) in ("aten.mm", "aten.addmm")) + stacked.flops
    )


def planned_linear_flops(block: BlockPlan, batch: int) -> float:
    """What the plan counts for the same, for each position of a batch; what runs once is the first row's."""

    def linear(runs_once: bool) -> float:
        found = (weight for b in block.blocks() if b.runs_once == runs_once for weight in b.weights)
        return matmul_flops(tuple(weight for weight in found if weight.is_linear))

    return linear(False) * batch + linear(True)


@EVERY_MIXER
def test_planned_parameters_are_built(name: str):
    """A mixer's parameters have exactly the planned names and shapes."""
    planned = {path[1:]: weight.shape for path, weight in mixer_plan(name).named_weights("")}
    module = mixer(name).block
    assert {path: tuple(p.shape) for path, p in module.named_parameters()} == planned
    assert list(module.state_dict()) == [path for path, _ in module.named_parameters()]
    assert mixer_plan(name).parameters == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", FFNS)
def test_planned_parameters_of_feed_forwards_are_built(name: str) -> None:
    """Those of an organism are the keys of its state dict, each once: no part stands there under two names."""
    found = organism([stage("s", {"kind": "convolution"}, ffn=FFNS[name])])
    assert list(found.state_dict()) == [path for path, _ in found.named_parameters()]
    assert found.state_dict().keys() == found.plan.weights.keys()


@EVERY_FIXED
def test_planned_matrix_flops_are_spent(name: str):
    """Torch counts as many operations for matrices as the plan."""
    batch = 2
    counted = linear_flops(mixer(name), inputs(CONTEXT, batch))
    assert counted == planned_linear_flops(mixer_plan(name), batch) * CONTEXT


@pytest.mark.parametrize("data", FFNS.values(), ids=FFNS)
def test_feed_forward_flops(data: dict):
    """A feed-forward costs its matrices, and what it contains."""
    block = block_of(plan([stage("s", {"kind": "convolution"}, ffn=data)]), "ffn")
    parts = [part for part in block.blocks() if any(weight.is_linear for weight in part.weights)]
    # test_product_keys counts what a memory looks up, and test_kan what the functions of edges take
    others = (ProductKeysPlan, KanPlan)
    costs = [matmul_flops(part.weights) if isinstance(part, others) else part.cost.flops for part in parts]
    assert linear_flops(Whole(built(block)), inputs(CONTEXT, 2)) == sum(costs) * CONTEXT * 2


@EVERY_FIXED
def test_taps_are_counted(name: str):
    """Depthwise taps cost two operations each a token, like matrices; nothing else is in the plan's matmul part."""
    for block in mixer_plan(name).blocks():
        taps = sum(weight.count for weight in block.weights if weight.group == "taps")
        linear = sum(weight.count * weight.share for weight in block.weights if weight.is_linear)
        assert matmul_flops(block.weights) == 2 * (taps + linear)


def brute_force_pairs(stencil: StencilSpec, context: int, causal: bool) -> int:
    """Visible pairs counted on the mask that the kernels apply."""
    kernel = Stencil(**stencil.kernel(), causal=causal)
    positions = torch.arange(context)
    return int(kernel.allows(positions[:, None], positions[None, :]).sum())


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("context", [1, 2, 7, 24])
@pytest.mark.parametrize("size", [1, 2, 5, 23, 24, 60])
@pytest.mark.parametrize("sinks", [0, 1, 3, 24, 40])
def test_visible_pairs(size: int, sinks: int, context: int, causal: bool):
    """The closed form of visible pairs equals a sum over the mask."""
    window = WindowStencil(size=size, sinks=sinks)
    assert window.visible(context, causal) == brute_force_pairs(window, context, causal)
    full = FullStencil()
    assert full.visible(context, causal) == brute_force_pairs(full, context, causal)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("context", [1, 2, 7, 24])
@pytest.mark.parametrize("size", [1, 2, 5, 30])
@pytest.mark.parametrize("step", [1, 3, 8])
def test_visible_pairs_of_blocks_and_steps(step: int, size: int, context: int, causal: bool):
    """So do those of blocks, of steps, and of rings."""
    ring, dilated = RingStencil(size=size, period=step), DilatedStencil(size=size, dilation=step)
    for stencil in (BlockStencil(size=size), ring, dilated):
        assert stencil.visible(context, causal) == brute_force_pairs(stencil, context, causal)


def test_visible_pairs_of_a_huge_context_are_immediate():
    """Ten million positions are counted without walking over them."""
    assert WindowStencil(size=4, sinks=2).visible(10_000_000, True) == 6 * 10_000_000 - 6 - 3 - 6


WHOLE = [name for name, data in MIXERS.items() if data.get("kind") == "attention" and "select" not in data]
"""Attentions that meet all that their stencil shows."""


@pytest.mark.parametrize("name", WHOLE)
def test_attention_pairs_cost_two_products(name: str):
    """Besides its matrices, attention costs 2 operations a channel of each key, and of each value, it sees."""
    block = mixer_plan(name)
    data = MIXERS[name].get("stencil", {"kind": "full"})
    stencil = kind_class("stencil", data["kind"]).model_validate({k: v for k, v in data.items() if k != "kind"})
    assert isinstance(stencil, StencilSpec)
    assert isinstance(block, AttentionPlan)
    values = (block.value_dim or block.head_dim) * (1 if block.differ is None else 2)
    inner = block.heads * ((block.key_dim or block.head_dim) + values)
    pairs = brute_force_pairs(stencil, CONTEXT, True) / CONTEXT + block.persistent
    kept = ("mix_before", "mix_after", "score_in", "score_out")
    mixed = sum(math.prod(weight.shape) for weight in block.weights if weight.name in kept)
    if block.mix_scores is not None and (compose := block.mix_scores.compose) is not None:  # into, out, and gains
        mixed += len(compose.by) * len(compose.on) * block.heads * (2 * compose.rank + 1)
    heads, dim = block.heads, block.head_dim
    lowered = {"none": 0, "one": 1, "each": heads}[block.selective] * (dim + 1)
    flops = matmul_flops(block.weights) + 2 * (inner + mixed + lowered) * pairs
    if block.factors is not None:  # a product of each head with each factor
        of_values = block.factors.v * (block.value_dim or dim)
        flops += 2 * (block.kv_heads * (block.factors.k * dim + of_values) + heads * (block.factors.q or 0) * dim)
    assert block.cost.flops == pytest.approx(flops)


BODY = stage("e", {"kind": "attention", "heads": 2}, repeat=2, share=True)
WRITTEN = {"name": "e", "layers": {"sublayers": [{"block": {"kind": "dense"}}]}, "norm_end": {"kind": "rms"}}
ADAPTERS = {"kind": "lora", "rank": 2}
INSIDE: dict[str, dict[str, Any]] = {
    "patches in a loop": {
        "stages": [
            {"name": "a", "kind": "loop", "of": {"name": "b", "kind": "patches", "of": BODY, "size": 4}, "times": 3}
        ]
    },
    "a loop beside memory tokens, twice": {
        "stages": [
            {"name": "a", "kind": "memory_tokens", "of": {"name": "b", "kind": "loop", "of": BODY}, "every": 4},
            {"name": "c", "weights_of": "a", "adapters": ADAPTERS},
        ]
    },
    "segments": {"stages": [{"name": "a", "kind": "segments", "of": BODY, "every": 8, "count": 3}]},
    "a norm behind layers, twice": {"stages": [WRITTEN, {"name": "b", "weights_of": "e"}]},
    "chunks in a loop": {
        "stages": [
            {"name": "a", "kind": "loop", "of": {"name": "b", "kind": "chunks", "of": BODY, "size": 3.0}, "times": 2}
        ]
    },
    "a norm behind layers in depths": {"stages": [{"name": "a", "kind": "depths", "of": WRITTEN}]},
    "adapters of a loop": {
        "stages": [{"name": "a", "kind": "loop", "of": BODY, "inject": "concat"}],
        "adapters": ADAPTERS,
    },
    "adapters of a code": {
        "stages": [
            {"name": "b", "kind": "latent", "heads": 2},
            stage("c", {"kind": "attention", "heads": 2}, kv_add="b"),
        ],
        "adapters": ADAPTERS,
    },
}
"""Stages inside stages, with weights of their own at each depth."""


@pytest.mark.parametrize("name", [*FLOW, *SLOW, *INSIDE])
def test_the_rows_of_explain_add_up(name: str) -> None:
    """The layer table has every parameter and operation once, whatever stands inside what; its data is plain."""
    whole = plan(**{**FLOW, **SLOW, **INSIDE}[name])
    table = [row for row in rows(whole) if not row.part]
    assert sum(row.parameters * row.copies for row in table) == whole.parameters
    assert sum(row.flops_per_token * row.count for row in table) == pytest.approx(whole.flops_per_token)
    assert json.loads(json.dumps(to_data(whole)))["totals"]["parameters"] == whole.parameters


@pytest.mark.parametrize("name", INSIDE)
def test_the_rows_of_stages_in_stages_show_what_decoding_keeps(name: str) -> None:
    """Caches and states, a stage's own among them."""
    whole = plan(**INSIDE[name])
    table = [row for row in rows(whole) if not row.part]
    assert sum(row.cache_bytes_per_token * row.count for row in table) == 2 * whole.cache_per_token
    assert sum(row.state_bytes * row.count for row in table) == 2 * whole.state
