"""Gated scans against networks written out token by token, and against fla's HGRN."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from test_scan_oracles import Weights, compare, ours
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from oracles import naive

pytestmark = pytest.mark.filterwarnings("ignore")


def logit(x: Tensor, w: Weights, name: str) -> Tensor:
    """W x + b, without a bias where there is none."""
    return F.linear(x, w[name], w.get(f"{name}_bias"))


def step_by_step(keep: Tensor, taken: Tensor) -> Tensor:
    """h_t = keep_t h_{t-1} + taken_t, (B, T, C)."""
    h, found = torch.zeros_like(taken[:, 0]), []
    for t in range(taken.shape[1]):
        h = keep[:, t] * h + taken[:, t]
        found.append(h)
    return torch.stack(found, dim=1)


def test_min_gru():
    """minGRU (2410.01201, 3.1): h = (1 - z) h + z g(W x), in the log space of its appendix."""

    def log_positive(x: Tensor) -> Tensor:
        return torch.where(x >= 0, (F.relu(x) + 0.5).log(), -F.softplus(-x))

    def theirs(x: Tensor, w: Weights) -> Tensor:
        k = logit(x, w, "forget_gate")  # z = sigmoid(-k): what is kept is 1 - z
        log_values = -F.softplus(k) + log_positive(logit(x, w, "candidate"))
        kept = torch.cumsum(-F.softplus(-k), dim=1)
        return (kept + torch.logcumsumexp(log_values - kept, dim=1)).exp() @ w["o"].T

    compare(ours(kind="gated_scan", act="positive"), theirs)


def test_min_lstm():
    """minLSTM (2410.01201, 3.2): both gates divided by their sum."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        f, i = logit(x, w, "forget_gate").sigmoid(), logit(x, w, "input_gate").sigmoid()
        candidate = logit(x, w, "candidate")
        taken = i / (f + i) * torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())
        return F.linear(step_by_step(f / (f + i), taken), w["o"], w["o_bias"])

    compare(ours(kind="gated_scan", act="positive", input="share", bias=True), theirs)


@pytest.mark.slow
def test_hgrn():
    """HGRN as fla has it: a lower bound, silu candidates, a norm gated by silu."""
    hgrn = naive("fla.ops.hgrn.naive:naive_recurrent_hgrn")
    least = 0.3

    def theirs(x: Tensor, w: Weights) -> Tensor:
        bound = torch.tensor(least, dtype=x.dtype)
        f = torch.logaddexp(bound.log(), torch.log1p(-bound) + F.logsigmoid(logit(x, w, "forget_gate")))
        i = F.silu(logit(x, w, "candidate")) * (1 - f.exp())
        o = hgrn(i.float(), f.float())[0].double()
        normed = o / (o.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * w["norm.gain"]
        return (normed * F.silu(logit(x, w, "gate"))) @ w["o"].T

    compare_loosely(ours(0.5, kind="gated_scan", act="silu", gate="silu", norm={"kind": "rms"}, least=least), theirs)


def compare_loosely(block: Block, theirs: Callable[[Tensor, Weights], Tensor]) -> None:
    """`compare` with the digits of float32, in which fla's function computes."""
    x = torch.randn(2, 21, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = {name: p.detach().clone().requires_grad_() for name, p in block.named_parameters()}
    mine, wanted = block(x, Flow()), theirs(x, weights)
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)
    got = torch.autograd.grad(mine.square().sum(), list(block.parameters()))
    expected = torch.autograd.grad(wanted.square().sum(), list(weights.values()))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def test_lstm_without_recurrent_weights():
    """input own, tanh: torch's LSTM with its weights on h at zero, but for its tanh of the cell."""
    inner = 12
    lstm = nn.LSTM(16, inner, batch_first=True).double()

    def theirs(x: Tensor, w: Weights) -> Tensor:
        opened = torch.full((inner,), 50.0, dtype=x.dtype)
        zeros = torch.zeros(inner, 16, dtype=x.dtype)
        state = {
            "weight_ih_l0": torch.cat((w["input_gate"], w["forget_gate"], w["candidate"], zeros)),
            "bias_ih_l0": torch.cat((w["input_gate_bias"], w["forget_gate_bias"], w["candidate_bias"], opened)),
            "weight_hh_l0": torch.zeros(4 * inner, inner, dtype=x.dtype),
            "bias_hh_l0": torch.zeros(4 * inner, dtype=x.dtype),
        }
        h, _ = torch.func.functional_call(lstm, state, (x,))
        return F.linear(torch.atanh(h), w["o"], w["o_bias"])

    compare(ours(0.4, kind="gated_scan", inner=inner, input="own", act="tanh", bias=True), theirs)
