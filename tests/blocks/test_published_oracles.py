"""Constructs against what their papers say, written out here in plain torch: values and gradients of every weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, WIDTH, Whole, block_of, built, inputs, plan, stage
from torch import Tensor

from evo.blocks.flow import Flow

HEADS = 2
ATTENTION = {"kind": "attention", "heads": HEADS, "position": {"kind": "none"}}
Theirs = Callable[[Mapping[str, Tensor], Tensor], Tensor]


def compare(mixer: dict[str, object], theirs: Theirs, moved: float = 0.0) -> None:
    """A mixer's values and gradients against a function of its weights and x. moved: how far weights are from where
    they start, on average."""
    block = Whole(built(block_of(plan([stage("s", mixer, ffn={"kind": "none"})]), "mixer")))
    weights, x = dict(block.named_parameters()), inputs()
    with torch.no_grad():
        for seed, weight in enumerate(weights.values()):
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed), dtype=weight.dtype)
            weight.add_(moved * noise)
    ours, expected = block(x), theirs(weights, x)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    cotangent = torch.randn(ours.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found, wanted = (torch.autograd.grad((y * cotangent).sum(), list(weights.values())) for y in (ours, expected))
    for name, one, other in zip(weights, found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=name)


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


def convolved(x_BTC: Tensor, taps_CW: Tensor) -> Tensor:
    """A causal depthwise convolution, by torch's conv1d."""
    padded = F.pad(x_BTC.transpose(1, 2), (taps_CW.shape[1] - 1, 0))
    return F.conv1d(padded, taps_CW[:, None], groups=taps_CW.shape[0]).transpose(1, 2)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of heads that lie side by side in (B, T, C)."""
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)


def by_heads(x: Tensor) -> Tensor:
    """(B, T, H C) -> (B, H, T, C)."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def scores(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """q k^T / sqrt(K) by head, (B, H, T, S)."""
    q, k = (by_heads(x @ w[name].T) for name in "qk")
    return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5


def read_out(weights_BHTS: Tensor, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The weighed values, projected."""
    return (weights_BHTS @ by_heads(x @ w["v"].T)).transpose(1, 2).flatten(-2) @ w["o"].T


def attended(w: Mapping[str, Tensor], x: Tensor, mixes: Mapping[str, Tensor] | None = None, **settings: Any) -> Tensor:
    """The same with what x-transformers makes of queries, keys and values. settings: those of its `Attend`, whose
    softmax is in float32 but for normed queries."""
    attend = pytest.importorskip("x_transformers.attend", reason="the oracle x-transformers is not installed").Attend
    run = attend(causal=True, heads=HEADS, qk_norm=True, **settings).double()
    held = {f"{name}.weight": mix[:, :, None, None] for name, mix in (mixes or {}).items()}
    q, k, v = (by_heads(x @ w[name].T) for name in "qkv")
    return torch.func.functional_call(run, held, (q, k, v))[0].transpose(1, 2).flatten(-2) @ w["o"].T


def test_sigmoid_weighs_each_key_by_itself():
    """sigmoid(q k / sqrt(K) - log n) v over the past, n the context (Ramapuram et al. 2409.04431, eq. 3)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return read_out((scores(w, x) - math.log(CONTEXT)).sigmoid().tril(), w, x)

    compare({**ATTENTION, "weigh": "sigmoid"}, theirs)


def test_softpick_is_a_rectified_softmax():
    """relu(e^x - 1) / sum |e^x - 1| over the past (Zuhri et al. 2504.20966, eq. 3)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        above = scores(w, x).expm1().tril()
        return read_out(above.relu() / (above.abs().sum(-1, keepdim=True) + 1e-6), w, x)

    compare({**ATTENTION, "weigh": "softpick"}, theirs)


def test_one_is_added_to_the_sum_of_softmax1():
    """e^x / (1 + sum e^x): as x-transformers has it, beside a key and a value of zeros (Miller 2023)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return attended(w, x, add_zero_kv=True)

    compare({**ATTENTION, "weigh": "softmax1"}, theirs)


def test_scalable_softmax_multiplies_scores_by_the_log_of_their_number():
    """softmax(s ln n q k / sqrt(K)) over n keys (Nakanishi 2501.19399, eq. 5)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        rows = [0.43 * math.log(n) * row[..., :n] for n, row in enumerate(scores(w, x).unbind(2), start=1)]
        return read_out(torch.stack([F.pad(row.softmax(-1), (0, x.shape[1] - row.shape[-1])) for row in rows], 2), w, x)

    compare({**ATTENTION, "temperature": {"form": "log", "slope": 0.43, "period": 1}}, theirs)


def test_a_spatial_gating_unit_is_gmlps():
    """U . (W V + b) of the halves of gelu(x W), V normed, and W causal (Liu et al. 2105.08050, eqs. 3 to 5)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        u, v = F.gelu(x @ torch.cat((w["gate"], w["v"])).T).chunk(2, -1)
        v = F.layer_norm(v, v.shape[-1:], w["norm.gain"], w["norm.bias"], 1e-5)
        tokens = x.shape[1]
        spatial = F.conv1d(v, w["places"][0, :tokens, :tokens].tril()[..., None], w["place_bias"][0, :tokens])
        return (u * spatial) @ w["o"].T

    compare({"kind": "spatial", "inner": 24, "norm": {"kind": "layer"}}, theirs, moved=0.3)


def test_a_random_synthesizer_learns_its_weights():
    """softmax(R) v by head, R learned, over the past (Tay et al. 2005.00743, eq. 6)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        tokens = x.shape[1]
        logits = w["places"][:, :tokens, :tokens].masked_fill(~torch.ones(tokens, tokens).tril().bool(), -torch.inf)
        return read_out(logits.softmax(-1)[None], w, x)

    data = {"kind": "spatial", "heads": HEADS, "weigh": "softmax", "act": "identity", "gate": False}
    compare(data, theirs, moved=0.5)


def test_talking_heads_are_x_transformers():
    """Products of all heads are mixed before the softmax, and weights after it (Shazeer et al. 2003.02436)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        pytest.importorskip("x_transformers.attend", reason="the oracle x-transformers is not installed")
        after = w["mix_after"] + torch.eye(HEADS)  # theirs is no sum behind the softmax
        mixes = {"pre_softmax_talking_heads": w["mix_before"], "post_softmax_talking_heads": after}
        return attended(w, x, mixes, pre_talking_heads=True, post_talking_heads=True)

    compare({**ATTENTION, "mix_scores": {"before": HEADS, "after": HEADS}}, theirs, moved=0.5)


def test_scores_of_many_tokens_are_convolved():
    """A convolution of a head's products over queries so far and keys around, unseen ones 0 before it and -inf behind,
    and a mix of weights over heads (Golovneva et al. 2504.00927, eqs. 4 to 6)."""
    queries, keys = 3, 5

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        logits, total = scores(w, x).tril(), scores(w, x).tril()
        tokens = x.shape[1]
        for back in range(queries):
            for place in range(keys):
                along = place - keys // 2
                moved = torch.zeros_like(logits)
                into, source = (
                    slice(max(0, -along), min(tokens, tokens - along)),
                    slice(max(0, along), tokens + min(0, along)),
                )
                moved[:, :, back:, into] = logits[:, :, : tokens - back, source]
                total = total + w["mix_before"][:, back * keys + place, None, None] * moved
        seen = torch.ones(tokens, tokens).tril().bool()
        weights = total.masked_fill(~seen, -torch.inf).softmax(-1)
        weights = weights + torch.einsum("hg,bgts->bhts", w["mix_after"], weights)
        return read_out(weights, w, x)

    compare({**ATTENTION, "mix_scores": {"queries": queries, "keys": keys, "after": HEADS}}, theirs, moved=0.5)


@pytest.mark.parametrize(("weigh", "power"), [("relu", 1), ("relu2", 2)])
def test_rectified_scores_are_divided_by_the_context(weigh: str, power: int):
    """(relu(q k / sqrt(K)) / n)^p v over the past (Wortsman et al. 2309.08586; Hua et al. 2202.10447, 3.1)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return read_out((scores(w, x) / CONTEXT).relu().pow(power).tril(), w, x)

    compare({**ATTENTION, "weigh": weigh}, theirs)


@pytest.mark.parametrize(("weigh", "alpha"), [("sparsemax", 2.0), ("entmax", 1.5)])
def test_sparse_weights_are_relu_of_what_is_above_a_threshold(weigh: str, alpha: float):
    """relu((a - 1) x - tau)^(1 / (a - 1)), tau by bisection so that they sum to one; its last step, a step of Newton,
    has the gradient (Peters et al. 1905.05702, algorithm 1)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        power = 1.0 / (alpha - 1.0)
        z = ((alpha - 1.0) * scores(w, x)).masked_fill(~torch.ones(x.shape[1], x.shape[1]).tril().bool(), -1e9)
        low, high = z.detach().amax(-1, keepdim=True) - 1.0, z.detach().amax(-1, keepdim=True)
        for _ in range(80):
            middle = (low + high) / 2
            is_low = (z.detach() - middle).relu().pow(power).sum(-1, keepdim=True) >= 1.0
            low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
        above = (z - low).relu()
        slope = (power * above.detach().pow(power - 1.0) * (above.detach() > 0)).sum(-1, keepdim=True)
        tau = low + (above.pow(power).sum(-1, keepdim=True) - 1.0) / slope
        return read_out((z - tau).relu().pow(power), w, x)

    compare({**ATTENTION, "weigh": weigh}, theirs)


def test_stick_breaking_is_flas():
    """Each earlier key takes its share of what nearer ones left (Tan et al. 2410.17980, eq. 2)."""
    naive = pytest.importorskip("fla.ops.stickbreaking_attn.naive", reason="the oracle fla is not installed")

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (by_heads(x @ w[name].T).transpose(1, 2) for name in "qkv")
        return naive.naive_stickbreaking_attn(q, k, v)[0].flatten(-2) @ w["o"].T

    compare({**ATTENTION, "weigh": "stick_breaking", "position": {"kind": "none"}}, theirs)


def test_forget_gates_lower_what_is_far():
    """softmax(q k / sqrt(K) + log prod of the gates over (s, t]) v (Lin et al. 2503.02130, eq. 5)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        gates_BTH = (x @ w["forget"].T + w["forget_bias"]).sigmoid()
        logits = scores(w, x)
        rows: list[Tensor] = []
        for t in range(x.shape[1]):
            products = [gates_BTH[:, s + 1 : t + 1].prod(1).log() for s in range(t + 1)]
            row = (logits[:, :, t, : t + 1] + torch.stack(products, dim=-1)).softmax(-1)
            rows.append(F.pad(row, (0, x.shape[1] - t - 1)))
        return read_out(torch.stack(rows, dim=2), w, x)

    compare({**ATTENTION, "forget": True}, theirs)


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


def unit(x: Tensor) -> Tensor:
    """x / sqrt(|x|² + 1e-6), as flash-linear-attention has it."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def by_heads_of_each(x: Tensor) -> Tensor:
    """(B, T, 2 H C) -> (B, T, 2, H, C): those of the first write, then of the second."""
    return x.unflatten(-1, (2, HEADS, -1))
