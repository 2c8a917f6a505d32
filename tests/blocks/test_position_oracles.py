"""Biases by distance against transformers' T5 and Inkling, FIRE's listing, KERPLE and Transformer-XL written out, and
xPos against torchscale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from block_variants import block_of, built, inputs, plan
from torch import Tensor, nn

from evo.blocks.base import Block, Distances
from evo.blocks.flow import Flow
from evo.blocks.position.biases import Buckets, Queried, TransformerXL

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
HEADS, DIM, TIME = 2, 8, 24


def attention(position: dict[str, Any], **settings: Any) -> Block:
    """An attention of two heads of width 8 with that position, float64, with large weights."""
    block = {"kind": "attention", "heads": HEADS, "position": position, **settings}
    module = built(block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": block}]}}]), "0"))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module


def compare(mine: Tensor, wanted: Tensor, of: Sequence[Tensor], their: Sequence[Tensor]) -> None:
    """Values, and gradients of what both are made of."""
    torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-6)
    cotangent = torch.randn(mine.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pairs = (torch.autograd.grad((y * cotangent).sum(), x) for y, x in ((mine, of), (wanted, their)))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a.flatten(), b.flatten(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 20), (6, 9)])
def test_buckets_of_t5(both: bool, buckets: int, furthest: int) -> None:
    """Every distance up to 300 falls into T5's bucket."""
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5", reason="the oracle transformers is not installed")
    position = {"kind": "buckets", "buckets": buckets, "furthest": furthest, "both": both}
    module = attention(position, causal=True).child("position")
    assert isinstance(module, Buckets)
    distances = torch.arange(-300, 300)[None]
    theirs = t5.T5Attention._relative_position_bucket(-distances, both, buckets, furthest)
    assert torch.equal(module.bucket(distances), theirs)


def test_a_whole_t5_attention() -> None:
    """T5's decoder self-attention: no scale, a bias by bucket."""
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5", reason="the oracle transformers is not installed")
    from transformers import T5Config

    config = T5Config(
        d_model=16,
        d_kv=DIM,
        num_heads=HEADS,
        is_decoder=True,
        dropout_rate=0.0,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
    )
    theirs = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0).double()
    ours = attention({"kind": "buckets", "buckets": 8, "furthest": 20}, scale=1.0)
    named = dict(ours.named_parameters())
    with torch.no_grad():
        for name in ("q", "k", "v", "o"):
            getattr(theirs, name).weight.copy_(named[name])
        theirs.relative_attention_bias.weight.copy_(named["position.bias"])
    x = inputs(TIME)
    mine_x, their_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    mask = torch.full((TIME, TIME), -torch.inf, dtype=torch.float64).triu(1)[None, None]
    wanted = theirs(their_x, mask=mask)[0]
    theirs_of = [their_x, theirs.relative_attention_bias.weight]
    compare(ours(mine_x, Flow()), wanted, [mine_x, named["position.bias"]], theirs_of)


class FireOfThePaper(nn.Module):
    """The listing of Li et al. 2023, appendix, but for the last bias, which no softmax sees."""

    def __init__(self, num_heads: int, mlp_width: int, init_L: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, mlp_width), nn.ReLU(), nn.Linear(mlp_width, num_heads, bias=False))
        self.c = nn.Parameter(torch.tensor(0.1))
        self.init_L = init_L
        self.L_multiplier = nn.Parameter(torch.tensor(1.0))
        self.eps = 1e-6

    def forward(self, seq_length: int) -> Tensor:
        positions = torch.arange(seq_length, dtype=torch.float64)
        rel_distance = (positions[:, None] - positions[None, :]).tril()
        threshold = torch.abs(self.L_multiplier * self.init_L)
        pos_normalizer = torch.max(positions, threshold)[:, None]
        rel_distance = torch.log(torch.abs(self.c * rel_distance) + 1)
        pos_normalizer = torch.log(torch.abs(self.c * pos_normalizer) + 1) + self.eps
        return self.mlp((rel_distance / pos_normalizer).unsqueeze(-1)).permute(2, 0, 1)


def test_fire_of_the_paper() -> None:
    """The bias of every pair, on both sides of the threshold, and the gradients of all that is learned."""
    ours = attention({"kind": "fire", "hidden": 5, "threshold": 9}).child("position")
    named, theirs = dict(ours.named_parameters()), FireOfThePaper(HEADS, 5, 9.0).double()
    of = [named[name] for name in ("c", "reach", "rate", "shift", "out")]
    with torch.no_grad():
        named["c"].fill_(0.3)
        named["reach"].fill_(1.2)
        for mine, their in zip(of, [theirs.c, theirs.L_multiplier, *theirs.mlp.parameters()], strict=True):
            their.copy_(mine.view(their.shape))
    x = inputs(TIME)
    mine = ours.bias_HTS(x, x, 1.0, Distances(0, TIME, TIME, x.device), Flow())  # pyright: ignore[reportCallIssue]
    wanted = theirs(TIME)
    compare(mine.tril(), wanted.tril(), of, [theirs.c, theirs.L_multiplier, *theirs.mlp.parameters()])


@pytest.mark.parametrize("form", ["log", "power"])
def test_kerple_written_out(form: str) -> None:
    """The law of each head, pair by pair, in numbers, and what it is learned by; numbers below 0.01 stay there."""
    ours = attention({"kind": "kerple", "form": form}).child("position")
    a, b = (ours.get_parameter(name) for name in "ab")
    with torch.no_grad():
        a.copy_(torch.tensor([0.7, -0.3]))
        b.copy_(torch.tensor([1.3, 0.4]))
    x = inputs(TIME)
    mine = ours.bias_HTS(x, x, 1.0, Distances(0, TIME, TIME, x.device), Flow())  # pyright: ignore[reportCallIssue]
    for (h, t, s), value in ((place, float(mine[place])) for place in [(0, 5, 2), (1, 23, 0), (0, 4, 4), (1, 7, 6)]):
        scale, slope, d = max(float(a[h]), 0.01), float(b[h]), t - s
        assert value == pytest.approx(-scale * (d**slope if form == "power" else math.log(1 + slope * d)))
    gradient_a, gradient_b = torch.autograd.grad(mine.tril().sum(), (a, b))
    assert gradient_a[0] < 0
    assert gradient_a[1] == 0
    assert bool((gradient_b < 0).all())


def test_profiles_of_inkling() -> None:
    """The bias that a token mixes from profiles, at each distance."""
    inkling = pytest.importorskip(
        "transformers.models.inkling.modeling_inkling", reason="this transformers has no Inkling"
    )
    ours = attention({"kind": "queried", "rank": 3, "extent": 7}).child("position")
    assert isinstance(ours, Queried)
    theirs = inkling.InklingRelativeLogits(3, 7).double()
    with torch.no_grad():
        theirs.proj.copy_(ours.profiles.T)
    x = inputs(TIME).requires_grad_()
    mixed = nn.functional.linear(x, ours.r).unflatten(-1, (HEADS, 3))
    wanted = theirs(mixed, torch.arange(TIME), torch.arange(TIME))
    mine = ours.bias_HTS(x, x, 1.0, Distances(0, TIME, TIME, x.device), Flow())
    compare(mine, wanted, [x, ours.r], [x, ours.r])


def test_transformer_xl_written_out() -> None:
    """The four terms of section 3.3 pair by pair, in numbers, against the whole attention."""
    ours = attention({"kind": "xl", "theta": 1000.0})
    named = dict(ours.named_parameters())
    position = ours.child("position")
    assert isinstance(position, TransformerXL)
    x = inputs(7, batch=1)
    q, k, v = (nn.functional.linear(x, named[n]).unflatten(-1, (HEADS, DIM))[0] for n in ("q", "k", "v"))
    u, w = (named[f"position.{n}"].view(HEADS, DIM) for n in ("u", "v"))
    outputs = torch.zeros(7, HEADS, DIM, dtype=torch.float64)
    for t in range(7):
        for h in range(HEADS):
            scores = []
            for s in range(t + 1):
                angles = torch.tensor([(t - s) * 1000.0 ** (-i / 8) for i in range(8)], dtype=torch.float64)
                r = (named["position.r"] @ torch.cat((angles.sin(), angles.cos()))).view(HEADS, DIM)[h]
                content = q[t, h] @ k[s, h] + u[h] @ k[s, h]
                scores.append((content + q[t, h] @ r + w[h] @ r) * DIM**-0.5)
            outputs[t, h] = torch.stack(scores).softmax(0) @ v[: t + 1, h]
    wanted = nn.functional.linear(outputs.flatten(1), named["o"])
    torch.testing.assert_close(ours(x, Flow())[0], wanted, rtol=1e-9, atol=1e-9)


def test_xpos_of_torchscale() -> None:
    """Products of queries and keys are those of torchscale's XPOS, wherever a sequence begins."""
    xpos = pytest.importorskip(
        "torchscale.component.xpos_relative_position", reason="the oracle torchscale is not installed"
    )
    theirs = xpos.XPOS(DIM, scale_base=20)
    position = attention({"kind": "rope", "pairs": "neighbours", "decay": 20.0}).child("position")
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, TIME, 1, DIM, generator=generator) for _ in range(2))
    mine = torch.einsum("bthk,bshk->ts", *position.float().rotate(q, k, 0))  # pyright: ignore[reportCallIssue]
    wanted = torch.einsum("btk,bsk->ts", theirs(q[:, :, 0], 0), theirs(k[:, :, 0], 0, downscale=True))
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
