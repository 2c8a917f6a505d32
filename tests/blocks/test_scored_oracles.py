"""Scores that accumulate, and heads of factors: against x-transformers, and against the equations written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, Whole, block_of, built, inputs, plan, stage
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.compiler.check import check
from evo.dsl.document import from_data

HEADS, DIM = 4, 4
BARE = {"kind": "attention", "heads": HEADS, "position": {"kind": "none"}}


def attention(**settings: Any) -> Block:
    """An attention in this language."""
    return built(block_of(plan([stage("s", {**BARE, **settings})], position={"kind": "none"}), "mixer"))


def by_head(x: Tensor, module: Block, name: str, heads: int = HEADS) -> Tensor:
    """A projection, (B, H, T, K), key heads as often as they are read."""
    found = F.linear(x, module.get_parameter(name)).unflatten(-1, (heads, -1)).transpose(1, 2)
    return found.repeat_interleave(HEADS // heads, dim=1)


def compare(module: Block, x: Tensor, wanted: Tensor) -> None:
    """Outputs, and gradients of the input and of every weight."""
    got = Whole(module)(x)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
    weights = [x, *module.parameters()]
    both = [torch.autograd.grad((y * inputs(seed=4)).sum(), weights, retain_graph=True) for y in (got, wanted)]
    torch.testing.assert_close(*both, rtol=1e-8, atol=1e-10)


def hidden(scores: Tensor) -> Tensor:
    """Scores with those of later keys left out."""
    return scores.masked_fill(torch.ones(CONTEXT, CONTEXT).triu(1).bool(), -torch.finfo(scores.dtype).max)


def out(module: Block, scores: Tensor, v: Tensor) -> Tensor:
    """What the softmax of scores makes of values, projected."""
    return F.linear((scores.softmax(-1) @ v).transpose(1, 2).flatten(2), module.get_parameter("o"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("most", [4, 40])
def test_contextual_positions_are_those_of_x_transformers(most: int) -> None:
    """CoPE within its largest position and beyond, with key heads that are shared."""
    modeling = pytest.importorskip("x_transformers.x_transformers", reason="the oracle x-transformers is not installed")
    module, x = attention(kv_heads=2, position={"kind": "contextual", "most": most}), inputs().requires_grad_()
    vectors = module.get_parameter("position.vectors")
    with torch.no_grad():
        vectors.normal_(generator=torch.Generator().manual_seed(3))
    theirs = modeling.CoPE(DIM, HEADS, most).double()
    del theirs.pos_emb
    theirs.pos_emb = vectors
    q, k, v = by_head(x, module, "q"), by_head(x, module, "k", 2), by_head(x, module, "v", 2)
    scores = hidden(q @ k.mT * DIM**-0.5)
    compare(module, x, out(module, scores + theirs(q, scores), v))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("selective", ["one", "each"])
def test_keys_passed_over_are_those_of_x_transformers(selective: str) -> None:
    """Selective attention by the first head for all, and by each for itself."""
    modeling = pytest.importorskip("x_transformers.attend", reason="the oracle x-transformers is not installed")
    module, x = attention(kv_heads=2, selective=selective), inputs().requires_grad_()
    q, k, v = by_head(x, module, "q"), by_head(x, module, "k", 2), by_head(x, module, "v", 2)
    scores = hidden(q @ k.mT * DIM**-0.5)
    if selective == "one":
        lowered = modeling.selective_attn(scores)
    else:
        lowered = torch.cat([modeling.selective_attn(each) for each in scores.split(1, dim=1)], dim=1)
    compare(module, x, out(module, lowered, v))


@pytest.mark.parametrize("q_rank", [3, None])
def test_heads_are_sums_of_outer_products(q_rank: int | None) -> None:
    """Q = A_Q(x)^T RoPE(B_Q(x)) / R_Q, and so keys and values (tensor product attention, 2501.06425)."""
    rope = {"kind": "rope", "pairs": "neighbours"}
    module, x = attention(factors={"q": q_rank, "k": 2, "v": 5}, position=rope), inputs().requires_grad_()
    frequencies = 10000.0 ** (-torch.arange(0, DIM, 2, dtype=torch.float64) / DIM)
    angles = torch.arange(CONTEXT, dtype=torch.float64)[:, None] * frequencies

    def turned(b: Tensor) -> Tensor:
        even, odd = b[..., 0::2], b[..., 1::2]
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)

    def made(name: str, rank: int, *, turns: bool) -> Tensor:
        a = F.linear(x, module.get_parameter(f"{name}_heads")).view(*x.shape[:2], rank, HEADS)
        b = F.linear(x, module.get_parameter(name)).view(*x.shape[:2], rank, DIM)
        total = sum(a[:, :, r, :, None] * (turned(b) if turns else b)[:, :, r, None] for r in range(rank))
        assert isinstance(total, Tensor)
        return (total / rank).transpose(1, 2)

    if q_rank is None:
        q = turned(by_head(x, module, "q").transpose(1, 2)).transpose(1, 2)
    else:
        q = made("q", q_rank, turns=True)
    k, v = made("k", 2, turns=True), made("v", 5, turns=False)
    compare(module, x, out(module, hidden(q @ k.mT * DIM**-0.5), v))


@pytest.mark.parametrize(("on", "top"), [(["v", "o"], 2), (["v"], 1), (["o"], 3)])
def test_heads_choose_among_maps(on: list[str], top: int) -> None:
    """Token by token and head by head: the best maps of values and outputs, times their sigmoids (SwitchHead, eqs. 7 to
    10 of 2312.07987)."""
    count, groups = 3, 2
    module, x = attention(kv_heads=groups, head_maps={"count": count, "top": top, "on": on}), inputs().requires_grad_()

    def taken(name: str, rows: Tensor, heads: int) -> Tensor:
        """(B, T, H, X) -> (B, T, H, Y)."""
        weight = module.get_parameter(name)
        if name not in on:
            parts = (
                weight.unflatten(0, (heads, -1)) if name == "v" else weight.unflatten(1, (heads, -1)).transpose(0, 1)
            )
            return torch.einsum("bthx,hyx->bthy", rows, parts)
        scores = torch.sigmoid(F.linear(x, module.get_parameter(f"{name}_router"))).unflatten(-1, (heads, count))
        made = torch.einsum("bthx,heyx->bthey", rows, weight.unflatten(0, (heads, count)))
        best = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.topk(top).indices, True)
        return (made * (scores * best)[..., None]).sum(3)

    q, k = by_head(x, module, "q"), by_head(x, module, "k", groups)
    v = taken("v", x[:, :, None].expand(-1, -1, groups, -1), groups).transpose(1, 2)
    weights = hidden(q @ k.mT * DIM**-0.5).softmax(-1)
    heads = (weights @ v.repeat_interleave(HEADS // groups, dim=1)).transpose(1, 2)
    compare(module, x, taken("o", heads, HEADS).sum(2))


def test_factors_are_what_a_cache_keeps() -> None:
    """A token costs its factors and not its heads: 2 (4 + 4) + 1 (4 + 4) values here, in place of 32."""
    block = block_of(plan([stage("s", {**BARE, "factors": {"k": 2, "v": 1}})], position={"kind": "none"}), "mixer")
    assert block.cost.cache_per_token == 24
    assert block.cost.cache_vectors == (8, 8, 8)


@pytest.mark.parametrize("settings", [{"position": {"kind": "contextual", "most": 4}}, {"selective": "each"}])
def test_documents_are_alone(settings: dict[str, Any]) -> None:
    """A row of documents gives what each gives by itself."""
    module, x, lengths = attention(**settings), inputs(batch=1), [9, 3, 12]
    with torch.no_grad():
        for index, weight in enumerate(module.parameters()):
            weight.normal_(generator=torch.Generator().manual_seed(index))
    segments = torch.repeat_interleave(torch.tensor((4, 2, 7)), torch.tensor(lengths))[None]
    alone = torch.cat([Whole(module)(part) for part in x.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(module(x, Flow(segments_BT=segments)), alone, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"selective": "one", "stencil": {"kind": "window", "size": 5}}, "EVO308"),
        ({"selective": "one", "select": {"kind": "means", "size": 4, "top": 2}}, "EVO308"),
        ({"factors": {}, "qk_norm": "rms"}, "EVO308"),
        ({"factors": {}, "kv_to": "both"}, "EVO308"),
        ({"head_maps": {"count": 2, "top": 3}}, "EVO308"),
        ({"head_maps": {}, "low_rank": {"o": 4}}, "EVO308"),
        ({"position": {"kind": "contextual"}, "stencil": {"kind": "window", "size": 5}}, "EVO361"),
        ({"position": {"kind": "contextual"}, "select": {"kind": "means", "size": 4, "top": 2}}, "EVO361"),
    ],
)
def test_what_does_not_go_together_is_told(settings: dict[str, Any], code: str) -> None:
    """Each by one error, at one of the two."""
    found = check(
        from_data({"evo": 1, "organism": {"width": 16, "context": 32, "stages": [stage("s", {**BARE, **settings})]}})
    )
    assert {diagnostic.code for diagnostic in found if diagnostic.severity == "error"} == {code}
