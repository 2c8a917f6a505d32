"""Feature maps of linear attention against what their papers say: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, Whole, block_of, built, inputs, plan, stage
from papers import HEADS, by_heads, compare, read_out, softmax_attention
from torch import Tensor

from evo.base.streams import Stream
from evo.blocks.recurrence.features import over_sums
from evo.compiler.build import drawn
from evo.compiler.check import problems
from evo.dsl.document import from_data
from evo.dsl.plan import Init, Weight

LINEAR = {
    "kind": "recurrence", "heads": HEADS, "update": "outer", "decay": "none", "normalizer": "sum", "conv": 0,
    "gate": "none",
}  # fmt: skip


def means(terms: Tensor, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The means of values by terms that are no weights yet, (B, H, T, S)."""
    terms = terms.tril()
    return read_out(terms / (terms.sum(-1, keepdim=True) + 1e-6), w, x)


def signs(x: Tensor) -> Tensor:
    """[softmax(x), softmax(-x)] (Zhang et al. 2402.04347, section 4.2 and the authors' code)."""
    return torch.cat([F.softmax(x, dim=-1), F.softmax(-x, dim=-1)], dim=-1)


def projection(x: Tensor) -> Tensor:
    """DPFP with nu = 1: k_i = r_i r_{i + 1} in a circle, r = relu([x, -x]) (Schlag et al. 2102.11174, eq. 37).

    Which neighbour is taken names channels in another order, so products are those of the authors' code.
    """
    r = torch.relu(torch.cat([x, -x], dim=-1))
    return torch.stack([r[..., i] * r[..., (i + 1) % r.shape[-1]] for i in range(r.shape[-1])], dim=-1)


@pytest.mark.parametrize("has_map", [False, True])
@pytest.mark.parametrize(("feature", "phi"), [("signs", signs), ("relu", torch.relu), ("neighbours", projection)])
def test_features_are_those_of_their_papers(feature: str, phi: Callable[[Tensor], Tensor], has_map: bool):
    """sum phi(q) phi(k) v / sum phi(q) phi(k), q and k behind a map of their head or not."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (by_heads(x @ w[name].T) for name in "qk")
        if has_map:
            q, k = (torch.einsum("bhtk,hok->bhto", y, w[f"{name}_map"]) for name, y in zip("qk", (q, k), strict=True))
        # without a scale of its own, a query counts key_dim ** -0.5 times, beside what is added to the sum
        return means(phi(q) @ phi(k).transpose(-1, -2) / q.shape[-1] ** 0.5, w, x)

    compare({**LINEAR, "feature": feature, "feature_map": has_map}, theirs, moved=0.4)


def test_squares_are_those_of_scores():
    """(q k)² / K over its sum, decayed by a gate (power attention, 2507.04239; ReBased, 2402.10644)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (by_heads(x @ w[name].T) for name in "qk")
        rates = F.logsigmoid(x @ w["decay"].T + w["decay_bias"]).transpose(1, 2).cumsum(-1)
        decays = (rates[..., :, None] - rates[..., None, :]).tril().exp()
        return means((q @ k.transpose(-1, -2)).square() / q.shape[-1] * decays, w, x)

    compare({**LINEAR, "feature": "squares", "decay": {"kind": "token", "form": "logsigmoid"}}, theirs, moved=0.4)


GATED = {"decay": {"kind": "token", "form": "logsigmoid"}, "write": "rest"}


@pytest.mark.parametrize("has_gate", [True, False])
def test_waves_are_random_feature_attention(has_gate: bool):
    """sum phi(q) phi(k) v / sum phi(q) phi(k), phi(x) = [sin(w x), cos(w x)] / sqrt(D) of x / |x|, w a random row times
    learned widths; with the gate, states are g_t S_{t-1} + (1 - g_t) phi(k_t) v_t (Peng et al. 2103.02143)."""

    def phi(x: Tensor, w: Mapping[str, Tensor]) -> Tensor:
        rows = w["feature_map.drawn.rows"] * w["feature_map.widths"][:, None]
        angles = torch.einsum("bhtk,hdk->bhtd", x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt(), rows)
        return torch.cat((angles.sin(), angles.cos()), -1) / rows.shape[1] ** 0.5

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (phi(by_heads(x @ w[name].T), w) for name in "qk")
        v = by_heads(x @ w["v"].T)
        kept = written = x.new_ones(len(x), HEADS, x.shape[1])
        if has_gate:
            kept = (x @ w["decay"].T + w["decay_bias"]).sigmoid().transpose(1, 2)
            written = 1 - kept
        memory, total, found = (
            torch.zeros_like(k[:, :, 0, :, None] * v[:, :, 0, None]),
            torch.zeros_like(k[:, :, 0]),
            [],
        )
        for t in range(x.shape[1]):
            g, wrote = kept[:, :, t, None], written[:, :, t, None]
            memory = g[..., None] * memory + wrote[..., None] * k[:, :, t, :, None] * v[:, :, t, None]
            total = g * total + wrote * k[:, :, t]
            weight = (q[:, :, t] * total).sum(-1, keepdim=True)
            assert (weight.abs() > 1e-6).all()  # nearer to 0, another is divided by
            found.append((q[:, :, t, :, None] * memory).sum(-2) / weight)
        return torch.stack(found, 2).transpose(1, 2).flatten(-2) @ w["o"].T

    more = GATED if has_gate else {}
    compare({**LINEAR, "feature": "fourier", "draws": 9, **more}, theirs, moved=0.3)


def test_many_waves_are_a_kernel():
    """Of forty thousand projections, weights are those of softmax of the products of unit vectors, to a tenth."""
    block = Whole(built(block_of(plan([stage("s", {**LINEAR, "feature": "fourier", "draws": 40000})]), "mixer")))
    w, x = dict(block.named_parameters()), inputs()
    with torch.no_grad():
        w["feature_map.widths"].fill_(1.0)
        w["feature_map.drawn.rows"].normal_(generator=torch.Generator().manual_seed(0))
        q, k = (F.normalize(by_heads(x @ w[name].T), dim=-1) for name in "qk")
        weights = (q @ k.transpose(-1, -2)).exp()
        torch.testing.assert_close(block(x), means(weights, w, x), rtol=0.05, atol=0.05)


def test_a_sum_near_zero_is_kept_from_it():
    """With its sign, so that outputs are finite where waves cancel."""
    o = torch.tensor([[2.0, 1e-9], [2.0, -1e-9], [2.0, 0.5], [2.0, -0.5]], dtype=torch.float64)
    assert over_sums(o, are_positive=False).flatten().tolist() == pytest.approx([2e6, -2e6, 4.0, -4.0])


@pytest.mark.parametrize(
    "more", [{"decay": "none"}, {"decay": "channel"}, {"update": "delta", "feature": "l2", "decay": "token"}]
)
def test_a_rest_is_that_of_a_head(more: dict[str, str]):
    """EVO305 where no head has a decay, or the delta rule has a share already."""
    mixer = {"kind": "recurrence", "heads": 2, "update": "outer", "write": "rest", **more}
    found = problems(from_data({"evo": 1, "organism": {"width": 16, "stages": [stage("s", mixer)]}}).document)
    assert [fault.code for fault in found if fault.severity == "error"] == ["EVO305"]


@pytest.mark.parametrize("is_divided", [True, False])
def test_drawn_features_are_favor(is_divided: bool):
    """h(x) exp(w x) with h = exp(-|x|² / 2) / sqrt(m), x = q / d^(1/4) (Choromanski et al. 2009.14794, eq. 7 and lemma
    1); queries over their largest as in the authors' code, where the sum of weights divides that out."""

    def phi(x: Tensor, rows: Tensor, is_lowered: bool) -> Tensor:
        x = x / x.shape[-1] ** 0.25
        logits = torch.einsum("bhtd,hmd->bhtm", x, rows) - (x * x).sum(-1, keepdim=True) / 2
        if is_lowered:
            logits = logits - logits.max(-1, keepdim=True).values.detach()
        return logits.exp() / rows.shape[1] ** 0.5

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (by_heads(x @ w[name].T) for name in "qk")
        rows = w["feature_map.rows"]
        terms = phi(q, rows, is_divided) @ phi(k, rows, False).transpose(-1, -2)
        return means(terms, w, x) if is_divided else read_out(terms.tril(), w, x)

    normalizer = "sum" if is_divided else "none"
    compare({**LINEAR, "feature": "drawn", "draws": 7, "normalizer": normalizer}, theirs, moved=0.4)


def test_many_drawn_features_are_a_softmax():
    """Their products are on average exponentials of scores (lemma 1): means come near those of softmax attention."""
    block = Whole(built(block_of(plan([stage("s", {**LINEAR, "feature": "drawn", "draws": 40000})]), "mixer")))
    w, x = dict(block.named_parameters()), 0.5 * inputs()
    wanted = softmax_attention(*(x @ w[name].T for name in "qkv")) @ w["o"].T
    assert (block(x) - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_rows_are_orthogonal_and_as_long_as_normal_ones():
    """Blocks of as many rows as columns (appendix B.2); lengths have the mean square of normal vectors."""
    rows = drawn(Weight("rows", (3, 40, 16), Init("orthogonal", 1.0), ("stack", "rows", "channel")), Stream(0))
    unit = F.normalize(rows, dim=-1)
    for block in unit.split(16, dim=1):
        torch.testing.assert_close(block @ block.mT, torch.eye(block.shape[1]).expand(3, -1, -1), rtol=0, atol=1e-5)
    assert abs(rows.square().sum(-1).mean() - 16) < 2
    assert abs(unit.mean()) < 0.02


def test_cosines_fall_with_distance():
    """relu(q) relu(k) cos(pi / 2 (i - j) / M), M the longest text (Qin et al. 2202.08791, eq. 8)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (torch.relu(by_heads(x @ w[name].T)) for name in "qk")
        places = torch.arange(x.shape[1], dtype=x.dtype)
        falls = torch.cos(torch.pi / 2 * (places[:, None] - places) / CONTEXT)
        return means(q @ k.transpose(-1, -2) * falls / q.shape[-1] ** 0.5, w, x)

    compare({**LINEAR, "feature": "cosines"}, theirs, moved=0.4)
