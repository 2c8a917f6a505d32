"""Keys and values that several layers give, against the paper's equation: values and gradients of every weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import built, inputs, organism, plan, stage
from papers import ATTENTION
from torch import Tensor

from evo.blocks.flow import Flow
from evo.compiler.organism import OrganismState

ROPE = {"kind": "rope"}


def attentions(*settings: dict[str, Any]) -> list[Any]:
    """Attentions of one pass, one after another, with large weights."""
    whole = plan([stage(f"s{i}", {**ATTENTION, **found}, ffn={"kind": "none"}) for i, found in enumerate(settings)])
    blocks = [built(dict(dict(part.children)["0"].children)["mixer"]) for part in whole.stages]
    with torch.no_grad():
        for seed, weight in enumerate(weight for block in blocks for weight in block.parameters()):
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.dtype))
    return blocks


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_heads_are_sums_over_layers_and_heads(kv_heads: int, apart: bool):
    """K_l = sum over layers and heads of R K, V alike, with one R or two (2502.09245, section 3), then attention."""
    third = {"of": ["a", "b"], **({"apart": True} if apart else {})}
    mixes = [{"to": "a"}, {"to": "b", "of": ["a"]}, third]
    blocks = attentions(*({"kv_heads": kv_heads, "mix_layers": mix} for mix in mixes))
    flow, x = Flow(), inputs()
    ours = [block(x, flow) for block in blocks]
    raw, theirs = list[tuple[Tensor, Tensor]](), []
    for block, reads in zip(blocks, ([], [0], [0, 1]), strict=True):
        w = dict(block.named_parameters())
        q = (x @ w["q"].T).unflatten(-1, (2, -1)).transpose(1, 2)
        k, v = ((x @ w[name].T).unflatten(-1, (kv_heads, -1)) for name in "kv")
        raw.append((k, v))
        if reads:
            r_k = w["mix_layers.keys"].unflatten(-1, (-1, kv_heads))
            r_v = w.get("mix_layers.values", w["mix_layers.keys"]).unflatten(-1, (-1, kv_heads))
            layers = [raw[-1], *(raw[index] for index in reads)]
            k = sum(torch.einsum("hg,btgc->bthc", r_k[:, i], layer[0]) for i, layer in enumerate(layers))
            v = sum(torch.einsum("hg,btgc->bthc", r_v[:, i], layer[1]) for i, layer in enumerate(layers))
        y = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True)
        theirs.append(y.transpose(1, 2).flatten(-2) @ w["o"].T)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    weights = [weight for block in blocks for weight in block.parameters()]
    totals = [sum((y * (0.3 + y)).sum() for y in ys) for ys in (ours, theirs)]
    found, wanted = (torch.autograd.grad(total, weights) for total in totals)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


def test_at_first_its_own_are_all():
    """A new mix changes nothing; decoding keeps what was mixed."""
    rows = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(0))
    first = {"kind": "attention", "heads": 2}
    plain, mixing = (
        organism([stage("a", {**first, **one}), stage("b", {**first, **two})])
        for one, two in (({}, {}), ({"mix_layers": {"to": "a"}}, {"mix_layers": {"of": "a", "apart": True}}))
    )
    weights = dict(mixing.named_parameters())
    with torch.no_grad():
        for name, weight in plain.named_parameters():
            weight.copy_(weights[name])
    torch.testing.assert_close(mixing(rows), plain(rows), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        for seed, weight in enumerate(mixing.parameters()):
            weight.add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.dtype))
    state, parts = OrganismState(), []
    for piece in rows.split([4, 1, 4], dim=1):
        logits, state = mixing.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), mixing(rows), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"mix_layers": {}}, "EVO308"),
        ({"mix_layers": {"of": "x"}}, "EVO315"),
        ({"mix_layers": {"to": "x", "of": "x"}}, "EVO308"),
    ],
)
def test_what_cannot_be_is_told(settings: dict[str, Any], code: str):
    """Nothing mixed, names that nobody gives, and its own."""
    with pytest.raises((AssertionError, ValueError), match=code):
        plan([stage("s", {**ATTENTION, **settings})])
