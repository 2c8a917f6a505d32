"""What makes weights of scores against what papers say: values and gradients of every weight."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT
from papers import ATTENTION, HEADS, attended, by_heads, compare, read_out, scores
from torch import Tensor

from oracles import naive


def test_sigmoid_weighs_each_key_by_itself():
    """sigmoid(q k / sqrt(K) - log n) v over the past, n the context (Ramapuram et al. 2409.04431, eq. 3)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return read_out((scores(w, x) - math.log(CONTEXT)).sigmoid().tril(), w, x)

    compare({**ATTENTION, "weigh": "sigmoid"}, theirs)


@pytest.mark.parametrize("gate", [False, True])
def test_heads_have_gains(gate: bool):
    """Concat(g_1 h_1, ..., g_n h_n) W_o (NormFormer, Shleifer et al. 2110.09456), before a gate if there is one."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        seen = scores(w, x).masked_fill(torch.ones(x.shape[1], x.shape[1]).triu(1).bool(), -math.inf).softmax(-1)
        parts = (seen @ by_heads(x @ w["v"].T)).unbind(1)
        y = torch.cat([number * part for number, part in zip(w["head_gain"].unbind(), parts, strict=True)], -1)
        return (y * (x @ w["gate"].T).sigmoid() if gate else y) @ w["o"].T

    compare({**ATTENTION, "head_gain": True, **({"gate": "channel"} if gate else {})}, theirs, moved=0.3)


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
    attend = naive("fla.ops.stickbreaking_attn.naive:naive_stickbreaking_attn")

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (by_heads(x @ w[name].T).transpose(1, 2) for name in "qkv")
        return attend(q, k, v)[0].flatten(-2) @ w["o"].T

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
