"""Maps that have a form, of feed-forwards and of any block, against whole matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, Whole, block_of, built, inputs, plan, stage
from test_costs import linear_flops
from test_scan_oracles import Weights, compare, ours
from torch import Tensor

from evo.blocks.flow import Flow
from evo.compiler.check import problems
from evo.dsl.document import from_data
from evo.dsl.plan import BlockPlan

HIDDEN = 24


def interleaved(count: int, blocks: int) -> Tensor:
    """The permutation that reads channels (r, blocks) as (blocks, r)."""
    return torch.eye(count, dtype=torch.float64)[torch.arange(count).view(-1, blocks).T.flatten()]


def matrix(w: Weights, name: str, form: str) -> Tensor:
    """A map as one matrix, (out, in)."""
    outer = w[name]
    if form == "blocks":
        return torch.block_diag(*outer)
    inner = w[f"{name}_inner"]
    if form == "low_rank":
        return outer @ inner
    if form == "kronecker":
        return torch.kron(inner, outer)
    blocks, out, met = outer.shape  # Monarch with its permutations written as matrices (2204.00595, eq. 1)
    back = interleaved(blocks * out, out)
    return back @ torch.block_diag(*outer) @ interleaved(blocks * met, blocks) @ torch.block_diag(*inner)


@pytest.mark.parametrize("form", ["blocks", "monarch", "kronecker", "low_rank"])
@pytest.mark.parametrize("gate", [False, True])
def test_maps_are_matrices(form: str, gate: bool):
    """Values and the gradients of every factor."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        up, down = (matrix(w, name, form) for name in ("up", "down"))
        hidden = F.linear(x, up, w["up_bias"])
        hidden = F.silu(F.linear(x, matrix(w, "gate", form), w["gate_bias"])) * hidden if gate else F.silu(hidden)
        return F.linear(hidden, down, w["down_bias"])

    size = {"rank": 3} if form == "low_rank" else {"blocks": 4}
    fields: dict[str, Any] = {"form": form, "gate": gate, "hidden": HIDDEN, "bias": True, "act": "silu", **size}
    compare(ours(0.4, kind="structured", **fields), theirs)


def activated(x: Tensor, w: Weights, name: str, form: str) -> Tensor:
    """A map with silu between its factors, (..., in) -> (..., out)."""
    outer, inner = w[name], w[f"{name}_inner"]
    if form == "low_rank":  # B silu(A x) (CoLA, 2502.10940)
        return F.silu(x @ inner.T) @ outer.T
    if form == "kronecker":
        met = F.silu(x @ torch.kron(torch.eye(inner.shape[1], dtype=x.dtype), outer).T)
        return met @ torch.kron(inner, torch.eye(outer.shape[0], dtype=x.dtype)).T
    blocks, out, met = outer.shape
    hidden = F.silu(x @ torch.block_diag(*inner).T) @ interleaved(blocks * met, blocks).T
    return hidden @ torch.block_diag(*outer).T @ interleaved(blocks * out, out).T


@pytest.mark.parametrize("form", ["monarch", "kronecker", "low_rank"])
def test_factors_may_have_an_activation_between_them(form: str):
    """Of a gated feed-forward, and of all four maps of an attention: values and the gradients of every factor."""
    size = {"rank": 3} if form == "low_rank" else {"blocks": 4}
    fields: dict[str, Any] = {"form": form, "factor_act": "silu", **size}

    def units(x: Tensor, w: Weights) -> Tensor:
        return activated(activated(x, w, "gate", form) * activated(x, w, "up", form), w, "down", form)

    def attended(x: Tensor, w: Weights) -> Tensor:
        heads = (activated(x, w, name, form).unflatten(-1, (4, -1)).transpose(1, 2) for name in "qkv")
        y = F.scaled_dot_product_attention(*heads, is_causal=True)
        return activated(y.transpose(1, 2).flatten(-2), w, "o", form)

    compare(ours(0.4, kind="structured", gate=True, act="identity", hidden=HIDDEN, **fields), units)
    compare(ours(0.4, formed=ATTENTION, **fields), attended)


@pytest.mark.parametrize("form", ["blocks", "monarch", "kronecker", "low_rank"])
def test_it_starts_as_large_as_a_plain_one(form: str):
    """The maps have about the variance of a dense feed-forward's."""
    size = {"rank": 64} if form == "low_rank" else {}
    data: dict[str, Any] = {"kind": "structured", "form": form, "hidden": 512, "act": "identity", **size}
    generator = torch.Generator().manual_seed(0)
    planned = block_of(plan([stage("s", {"kind": "convolution"}, ffn=data)]), "ffn")
    drawn = {
        weight.name: weight.init.a * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        for weight in planned.weights
    }
    up = matrix(drawn, "up", form)
    assert up.shape == (512, 16)
    assert 0.5 < float(up.square().sum(1).mean()) < 2.0


FORMS: list[tuple[str, dict[str, int]]] = [
    ("blocks", {"blocks": 4}),
    ("monarch", {"blocks": 4}),
    ("kronecker", {"blocks": 4}),
    ("low_rank", {"rank": 3}),
]
ATTENTION = {"kind": "attention", "heads": 4, "position": {"kind": "none"}}


@pytest.mark.parametrize(("form", "size"), FORMS)
def test_projections_of_attention_are_matrices(form: str, size: dict[str, int]):
    """softmax(q k^T / sqrt(K)) v with each of its four maps in a form: values and the gradients of every factor."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        heads = lambda name: F.linear(x, matrix(w, name, form), w.get(f"main.{name}_bias")).unflatten(-1, (4, -1))  # noqa: E731
        q, k, v = (heads(name).transpose(1, 2) for name in ("q", "k", "v"))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
        return F.linear(y, matrix(w, "o", form), w["main.o_bias"])

    compare(ours(0.4, formed={**ATTENTION, "bias": ["q", "v", "o"]}, form=form, **size), theirs)


def test_maps_of_one_block_may_have_several_forms():
    """Queries and keys of blocks, values and outputs of low rank: values and the gradients of every factor."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        inner = {name.removeprefix("main."): value for name, value in w.items()}
        maps = {n: matrix(inner, n, "blocks") for n in "qk"} | {n: matrix(w, n, "low_rank") for n in "vo"}
        q, k, v = (F.linear(x, maps[name]).unflatten(-1, (4, -1)).transpose(1, 2) for name in "qkv")
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
        return F.linear(y, maps["o"])

    inside = {"formed": ATTENTION, "form": "blocks", "blocks": 4, "on": ["q", "k"]}
    compare(ours(0.4, formed=inside, form="low_rank", rank=3, on=["v", "o"]), theirs)


@pytest.mark.parametrize(("form", "size"), FORMS)
@pytest.mark.parametrize(
    "mixer",
    [
        {"kind": "recurrence", "heads": 2},
        {"kind": "selective_scan", "state": 3, "rank": 4},
        {"kind": "rg_lru", "heads": 2},
        {"kind": "wkv"},
        {"kind": "gated", "hidden": 24, "bias": True},
        {"kind": "latent", "heads": 2, "kv_rank": 8, "nope_dim": 4, "rope_dim": 4, "value_dim": 4},
    ],
    ids=lambda mixer: mixer["kind"],
)
def test_maps_of_any_mixer_are_matrices(mixer: dict[str, Any], form: str, size: dict[str, int]):
    """It is the same mixer with these matrices, of which it has no weights itself, and as large at first."""
    block = built(planned({"formed": mixer, "form": form, **size}))
    plain = built(planned(mixer))
    w = dict(block.named_parameters())
    whole = {name: w[f"main.{name}"] if f"main.{name}" in w else matrix(w, name, form) for name in weights_of(plain)}
    x = inputs()
    expected = torch.func.functional_call(plain, whole, (x, Flow()))
    torch.testing.assert_close(block(x, Flow()), expected, rtol=1e-10, atol=1e-12)
    assert len(whole) < len(w) or form == "blocks"
    assert sum(p.numel() for p in block.parameters()) < sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize(("form", "size"), FORMS)
def test_what_a_form_costs(form: str, size: dict[str, int]):
    """Torch counts as many operations for maps as the plan, those of a Kronecker product too."""
    found = planned({"formed": {"kind": "linear", "bias": True}, "form": form, **size})
    assert linear_flops(Whole(built(found)), inputs()) == found.flops * 2 * CONTEXT
    assert found.flops < 2 * 16 * 16


def weights_of(block: torch.nn.Module) -> list[str]:
    """The names of a block's weights."""
    return [name for name, _ in block.named_parameters()]


def planned(mixer: dict[str, Any]) -> BlockPlan:
    """The plan of a block that stands alone in its organism."""
    return block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": mixer}]}}]), "0")


def test_only_what_gets_smaller_has_a_form():
    """Unless maps are named: those that the blocks do not divide stay as they are, and so does a map of rank 3."""
    mixer = {**ATTENTION, "heads": 2, "value_dim": 5}
    found = planned({"formed": mixer, "blocks": 4})
    assert {w.name.removesuffix("_inner") for w in found.weights} == {"q", "k"}
    assert {w.name for w in dict(found.children)["main"].weights} == {"v", "o"}
    narrow = planned({"formed": {"kind": "linear", "rank": 3}, "form": "low_rank", "rank": 2, "on": "o"})
    assert [w.shape for w in narrow.weights] == [(2, 3), (16, 2)]


def test_outputs_begin_as_small_as_they_were():
    """What writes into the stream says so, and a new branch may be silent; a map of zeros stays one."""
    found = planned({"formed": ATTENTION})
    assert found.can_be_silent
    assert [w.name for w in found.weights if w.writes_residual] == ["o"]
    bent = planned({"formed": {"conditioned": ATTENTION}, "blocks": 2})
    assert {w.init.a for w in bent.weights if w.name in ("input_scale", "input_shift")} == {0.0}


@pytest.mark.parametrize(
    ("mixer", "code", "words"),
    [
        ({"formed": ATTENTION, "on": "w"}, "EVO337", "no map is named 'w'"),
        ({"formed": ATTENTION, "on": ["q", "q"]}, "EVO337", "'q' is listed twice"),
        ({"formed": ATTENTION, "on": "q", "blocks": 3}, "EVO300", "3 blocks do not divide the 16 channels of 'q'"),
        ({"formed": {"chain": [ATTENTION, ATTENTION]}}, "EVO337", "no map of its own would be smaller"),
        ({"formed": {"kind": "none"}}, "EVO306", "builds nothing"),
        ({"formed": {"kind": "structured", "form": "low_rank"}}, "EVO337", "no map of its own would be smaller"),
    ],
)
def test_what_cannot_have_a_form(mixer: dict[str, Any], code: str, words: str):
    """A map that is not there, twice, or that the blocks do not divide; a block without one, and no block at all."""
    body = {"width": 16, "context": 16, "stages": [{"name": "s", "layers": {"sublayers": [{"block": mixer}]}}]}
    found = [fault for fault in problems(from_data({"evo": 1, "organism": body}).document) if fault.severity == "error"]
    assert [fault.code for fault in found] == [code]
    assert words in found[0].message
