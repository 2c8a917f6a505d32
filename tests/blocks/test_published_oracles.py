"""Constructs against what their papers say, written out here in plain torch: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from block_variants import WIDTH, Whole, built, inputs, plan, stage
from papers import (
    ATTENTION,
    HEADS,
    by_heads,
    by_heads_of_each,
    compare,
    convolved,
    read_out,
    scores,
    softmax_attention,
    unit,
)
from torch import Tensor

from evo.blocks.flow import Flow


@pytest.mark.parametrize(
    ("norm", "name", "weights"),
    [
        ({"kind": "squashed"}, "DynamicTanh", {"slope": "pre_tanh_scale", "gain": "gamma", "bias": "beta"}),
        (
            {"kind": "squashed", "by": "erf", "shift": True},
            "Derf",
            {"slope": "alpha", "shift": "s", "gain": "gamma", "bias": "beta"},
        ),
        ({"kind": "l2", "gain": "one", "eps": 1e-30}, "ScaleNorm", {"gain": "g"}),
    ],
)
def test_what_stands_in_a_norms_place_is_x_transformers(norm: dict[str, object], name: str, weights: dict[str, str]):
    """DyT, Derf and ScaleNorm: values and gradients of the input and of every weight, large ones."""
    theirs_of = pytest.importorskip("x_transformers.x_transformers", reason="x-transformers is not installed")
    whole = plan([stage("s", ATTENTION, ffn={"kind": "none"}, norm=norm)])
    found = built(dict(dict(whole.stages[0].children)["0"].children)["mixer_norm"])
    assert {name for name, _ in found.named_parameters()} == set(weights)
    ours, theirs = Whole(found), getattr(theirs_of, name)(WIDTH).double()
    with torch.no_grad():
        for (ours_name, weight), seed in zip(found.named_parameters(), range(9), strict=False):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed), dtype=weight.dtype))
            scale = getattr(theirs, "scale", 1.0)  # ScaleNorm counts in roots of the width
            getattr(theirs, weights[ours_name]).copy_(
                (weight / scale).reshape(getattr(theirs, weights[ours_name]).shape)
            )
    x = inputs().requires_grad_()
    y, expected = ours(x), theirs(x)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    cotangent = inputs(seed=5)
    own = torch.autograd.grad((y * cotangent).sum(), [x, *found.parameters()])
    wanted = torch.autograd.grad(
        (expected * cotangent).sum(), [x, *(getattr(theirs, weights[n]) for n, _ in found.named_parameters())]
    )
    for one, other, scale in zip(own, wanted, [1.0, *([getattr(theirs, "scale", 1.0)] * len(weights))], strict=True):
        torch.testing.assert_close(one, (other / scale).reshape(one.shape), rtol=1e-8, atol=1e-9)


def test_taps_are_primers():
    """q, k and v each pass a depthwise convolution behind their projections (So et al. 2109.08668, section 4.2)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (convolved(x @ w[name].T, w[f"{name}_taps"]) for name in "qkv")
        return softmax_attention(q, k, v) @ w["o"].T

    compare({**ATTENTION, "taps": {"size": 3}}, theirs)


def test_two_convolutions_mix_queries_and_keys():
    """CCA (Figliolia et al. 2510.04476, section 3): depthwise and then grouped convolutions of q and k, their means
    beside them, values of this token and the one before, unit vectors, and a temperature a key head."""

    def grouped(x_BTC: Tensor, w: Mapping[str, Tensor], name: str) -> Tensor:
        heads, dim, read = w[f"{name}_mix"].shape
        padded = F.pad(x_BTC.transpose(1, 2), (1 + read // dim - 1, 0))
        once = F.conv1d(padded, w[f"{name}_taps"][:, None], w[f"{name}_taps_bias"], groups=heads * dim)
        kernel = w[f"{name}_mix"].unflatten(-1, (-1, dim)).transpose(2, 3).flatten(0, 1)
        return F.conv1d(once, kernel, w[f"{name}_mix_bias"], groups=heads).transpose(1, 2)

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (x @ w[name].T for name in "qk")
        one, other = q.unflatten(-1, (2 * HEADS, -1)), k.unflatten(-1, (HEADS, -1))
        q_means = (one + other.repeat_interleave(2, dim=2)) / 2
        k_means = torch.stack([(q_means[:, :, 2 * g] + q_means[:, :, 2 * g + 1]) / 2 for g in range(HEADS)], dim=2)
        q, k = grouped(q, w, "q") + q_means.flatten(-2), grouped(k, w, "k") + k_means.flatten(-2)
        q, k = (F.normalize(y.unflatten(-1, (-1, one.shape[-1])), dim=-1) for y in (q, k))
        k = k * w["key_gain"][:, None] * one.shape[-1]
        v = torch.cat((x @ w["v"].T, F.pad(x[:, :-1], (0, 0, 1, 0)) @ w["v_late"].T), dim=-1).unflatten(-1, (HEADS, -1))
        k, v = (y.repeat_interleave(2, dim=2) for y in (k, v))
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).flatten(-2) @ w["o"].T

    taps = {"size": 2, "on": ["q", "k"], "mix": 2, "bias": True, "residual": "paired"}
    norm = {"kind": "rms", "gain": False, "eps": 1e-20}
    more = {"heads": 2 * HEADS, "kv_heads": HEADS, "values": "halves", "key_gain": True, "qk_norm": norm}
    compare({**ATTENTION, **more, "taps": taps}, theirs)


def test_a_chain_begins_with_a_canon_layer():
    """h + conv(h) before attention (Allen-Zhu 2025, Canon-A)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        x = x + convolved(x, w["link0.taps"])
        q, k, v = (x @ w[f"link1.{name}"].T for name in "qkv")
        return softmax_attention(q, k, v) @ w["link1.o"].T

    compare({"chain": [{"kind": "convolution", "maps": False, "residual": True}, ATTENTION]}, theirs)


def test_values_of_the_first_layer_are_mixed_in():
    """V'_n = a V_1 + b V_n (Zhou et al. 2410.17897, eq. 6)."""
    mixers = [{**ATTENTION, "values_to": "first"}, {**ATTENTION, "values_from": "first"}]
    whole = plan([stage(name, mixer, ffn={"kind": "none"}) for name, mixer in zip("ab", mixers, strict=True)])
    first, second = (built(dict(dict(s.children)["0"].children)["mixer"]) for s in whole.stages)
    x, y, flow = inputs(), inputs(seed=1), Flow()
    first(x, flow)
    w = dict(second.named_parameters())
    earlier, own = w["value_mix"]
    v = earlier * (x @ dict(first.named_parameters())["v"].T) + own * (y @ w["v"].T)
    expected = softmax_attention(y @ w["q"].T, y @ w["k"].T, v) @ w["o"].T
    torch.testing.assert_close(second(y, flow), expected, rtol=1e-9, atol=1e-9)


RECURRENCE = {"kind": "recurrence", "heads": HEADS, "conv": 0, "gate": "none", "normalizer": "none"}


def test_a_rest_moves_towards_the_output():
    """x <- l2(x + a (l2(f(x)) - x)) (Loshchilov et al. 2410.01131, eqs. 10 and 11)."""
    norm = {"kind": "l2", "eps": 1e-12}
    sublayer = {"block": ATTENTION, "norm": {"out": norm, "after": norm}, "skip": {"kind": "rest"}}
    learned = {**sublayer, "gain": {"kind": "learned", "per": "channel", "init": 0.3}}
    whole = plan([{"name": "s", "layers": {"sublayers": [learned]}}])
    layer, x = built(next(found for _, found in whole.stages[0].running_layers())), inputs()
    w = {name.removeprefix("0."): weight for name, weight in layer.named_parameters()}
    q, k, v = (x @ w[name].T for name in "qkv")
    step = F.normalize(softmax_attention(q, k, v) @ w["o"].T, dim=-1) - x
    torch.testing.assert_close(layer(x, Flow()), F.normalize(x + w["0_gain"] * step, dim=-1), rtol=1e-9, atol=1e-9)


def test_based_is_the_exponentials_first_terms():
    """sum (1 + s + s²/2) v / sum (1 + s + s²/2), s = q k / sqrt(K) (Arora et al. 2402.18668, section 3)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        s = scores(w, x)
        terms = (1 + s + s.square() / 2).tril()
        return read_out(terms / (terms.sum(-1, keepdim=True) + 1e-6), w, x)

    mixer = {**RECURRENCE, "decay": "none", "update": "outer", "feature": "taylor", "normalizer": "sum"}
    compare(mixer, theirs)


def test_keys_of_a_decay_are_hgrn2s():
    """S_t = diag(f) S + (1 - f) v^T, f = sigmoid(W x + b) (Qin et al. 2404.07904, eq. 9)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, v = (by_heads(x @ w[name].T) for name in "qv")
        f = by_heads((x @ w["decay"].T + w["decay_bias"]).sigmoid())
        state, rows = x.new_zeros(*f.shape[:2], f.shape[-1], v.shape[-1]), []
        for t in range(x.shape[1]):
            state = f[:, :, t, :, None] * state + (1 - f)[:, :, t, :, None] * v[:, :, t, None, :]
            rows.append((q[:, :, t, None] @ state)[:, :, 0])
        return torch.stack(rows, dim=1).flatten(-2) @ w["o"].T

    decay = {"kind": "channel", "narrow": False, "temperature": 1.0}
    mixer = {**RECURRENCE, "update": "outer", "feature": "identity", "scale": 1.0, "keys": "decay", "decay": decay}
    compare(mixer, theirs)


def test_several_writes_are_a_product_of_householders():
    """A token's state passes prod_j (1 - beta_j k_j k_j^T), a write each (Siems et al. 2502.10297, eq. 5)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q = unit(by_heads(x @ w["q"].T))
        k, v = (by_heads_of_each(x @ w[name].T) for name in "kv")
        k, beta = unit(k), (x @ w["beta"].T).unflatten(-1, (2, HEADS)).sigmoid()
        decay = (-w["decay_rate"].exp())[:, None, None].exp()
        state, rows = x.new_zeros(x.shape[0], HEADS, k.shape[-1], v.shape[-1]), []
        for t in range(x.shape[1]):
            state = decay * state
            for j in range(2):
                key, share = k[:, t, j, :, :, None], beta[:, t, j, :, None, None]
                state = state - share * key @ (key.transpose(-1, -2) @ state) + share * key * v[:, t, j, :, None, :]
            rows.append((q[:, :, t, None] @ state)[:, :, 0])
        return torch.stack(rows, dim=1).flatten(-2) @ w["o"].T

    compare({**RECURRENCE, "writes": 2, "scale": 1.0, "decay": {"kind": "learned", "per": "head"}}, theirs)
