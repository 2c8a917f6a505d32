"""RWKV-6, RWKV-7 and xLSTM's blocks against fla's naive recurrences and transformers; the rest is written out here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, plan
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from oracles import naive

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
WIDTH, HEADS, TIME = 24, 3, 21
DIM = WIDTH // HEADS
Weights = dict[str, Tensor]


def our(scale: float = 0.7, **data: Any) -> Block:
    """The block in this language, float32, with large weights."""
    whole = plan([{"name": "s", "layers": {"sublayers": [{"block": {"heads": HEADS, **data}}]}}], width=WIDTH)
    block = built(block_of(whole, "0")).float()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return block


def compare(block: Block, theirs: Callable[[Tensor, Weights], Tensor]) -> None:
    """Outputs and the gradients of the input and of every weight."""
    generator = torch.Generator().manual_seed(0)
    x, cotangent = (torch.randn(2, TIME, WIDTH, generator=generator) for _ in range(2))
    mine_x, their_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = {name: p.detach().clone().requires_grad_() for name, p in block.named_parameters()}
    mine, wanted = block(mine_x, Flow()), theirs(their_x, weights)
    torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-4 * float(wanted.detach().abs().max()))
    got = torch.autograd.grad((mine * cotangent).sum(), [mine_x, *block.parameters()])
    expected = torch.autograd.grad((wanted * cotangent).sum(), [their_x, *weights.values()])
    for name, a, b in zip(["x", *weights], got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")


def before(x: Tensor) -> Tensor:
    """The token before each."""
    return F.pad(x, (0, 0, 1, -1))


def by_head(x: Tensor) -> Tensor:
    """(B, H, T, K)."""
    return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)


def group_norm(o: Tensor, w: Weights) -> Tensor:
    """Of (B, H, T, V), each head by itself."""
    o = o.transpose(1, 2)
    o = (o - o.mean(-1, keepdim=True)) / (o.var(-1, keepdim=True, unbiased=False) + 64e-5).sqrt()
    return o.flatten(2) * w["norm_gain"] + w["norm_bias"]


def test_rwkv_6():
    """RWKV-6's time mixing: shares of the token before that depend on the data, and fla's naive recurrence."""
    rwkv = naive("fla.ops.rwkv6.recurrent_naive:naive_recurrent_rwkv6")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        xx = before(x) - x
        narrow = torch.tanh((x + xx * w["x_mix"]) @ w["mix_down"].T).chunk(5, -1)
        said = [part @ w["mix_up"][i].T for i, part in enumerate(narrow)]
        xw, xk, xv, xr, xg = (x + xx * (w["stream_mix"][i] + said[i]) for i in range(5))
        decay = -torch.exp(w["decay_base"] + torch.tanh(xw @ w["decay_down"].T) @ w["decay_up"].T)
        streams = (xr @ w["r"].T, xk @ w["k"].T, xv @ w["v"].T, decay)
        o = rwkv(*map(by_head, streams), w["bonus"], scale=1.0)[0]
        return (group_norm(o, w) * F.silu(xg @ w["g"].T)) @ w["o"].T

    compare(our(kind="wkv6"), theirs)


def test_rwkv_5():
    """RWKV-5's time mixing (2404.05892, section 4.1): shares and decays that are the same at every token."""
    rwkv = naive("fla.ops.rwkv6.recurrent_naive:naive_recurrent_rwkv6")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        xk, xv, xr, xg = (share * before(x) + (1 - share) * x for share in w["stream_mix"])
        decay = w["decay_base"].exp().neg().expand_as(x)
        o = rwkv(*map(by_head, (xr @ w["r"].T, xk @ w["k"].T, xv @ w["v"].T, decay)), w["bonus"], scale=1.0)[0]
        return (group_norm(o, w) * F.silu(xg @ w["g"].T)) @ w["o"].T

    compare(our(kind="wkv6", dynamic=False), theirs)


def rwkv_7(x: Tensor, w: Weights, first: Tensor | None = None) -> Tensor:
    """RWKV-7's time mixing as in the paper's appendix, on fla's naive recurrence."""
    dplr = naive("fla.ops.generalized_delta_rule.dplr.naive:dplr_recurrence")
    xx = before(x) - x
    xr, xw, xk, xv, xa, xg = (x + xx * w[f"{name}_mix"] for name in "rwkvag")
    decay = -0.606531 * torch.sigmoid(w["decay_base"] + torch.tanh(xw @ w["decay_down"].T) @ w["decay_up"].T)
    r, k, v = xr @ w["r"].T, xk @ w["k"].T, xv @ w["v"].T
    a = torch.sigmoid(w["rate_base"] + xa @ w["rate_down"].T @ w["rate_up"].T)
    if first is not None:
        v = v + (first - v) * torch.sigmoid(w["share_base"] + xv @ w["share_down"].T @ w["share_up"].T)
    kk = F.normalize((k * w["removal"]).view(*k.shape[:2], HEADS, -1), dim=-1).flatten(2)
    k = k * (1 + (a - 1) * w["write"])
    scaled = by_head(r) * DIM**0.5  # theirs divides
    o = dplr(scaled, by_head(k), by_head(v), by_head(-kk), by_head(kk * a), by_head(decay))[0]
    bonus = (by_head(r * k) * w["bonus"][:, None]).sum(-1, keepdim=True) * by_head(v)
    inner = group_norm(o, w) + bonus.transpose(1, 2).flatten(2)
    return (inner * (torch.sigmoid(xg @ w["gate_down"].T) @ w["gate_up"].T)) @ w["o"].T


def test_rwkv_7():
    """A first layer of RWKV-7."""
    compare(our(kind="wkv7", first_values="give"), rwkv_7)


def test_rwkv_7_takes_first_values():
    """A later layer mixes its values with those that the first published."""
    stages = [
        {"name": name, "layers": {"sublayers": [{"block": {"kind": "wkv7", "heads": HEADS, "first_values": word}}]}}
        for name, word in (("a", "give"), ("b", "take"))
    ]
    whole = plan(stages, width=WIDTH)
    block = built(next(layer for _, layer in whole.stages[1].running_layers()).child("0")).float()
    (name,) = next(layer for _, layer in whole.stages[0].running_layers()).child("0").outputs
    x, first = torch.randn(2, 2, TIME, WIDTH, generator=torch.Generator().manual_seed(5)).unbind(0)
    mine = block(x, Flow(signals={name: first}))
    torch.testing.assert_close(mine, rwkv_7(x, dict(block.named_parameters()), first), rtol=1e-3, atol=1e-4)


def test_xlstm():
    """xLSTM's layer of transformers, its recurrence token by token, biases and all."""
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    theirs_of = importlib.import_module("transformers.models.xlstm.modeling_xlstm")
    made = importlib.import_module("transformers").xLSTMConfig(
        hidden_size=WIDTH, num_heads=HEADS, qk_dim_factor=0.5, v_dim_factor=1.0, use_bias=True, norm_eps=1e-6,
        chunkwise_kernel="chunkwise--native_autograd", sequence_kernel="native_sequence__native", step_kernel="native",
        mode="inference", weight_mode="single", gate_soft_cap=15.0, num_hidden_layers=1,
    )  # fmt: skip
    layer = theirs_of.xLSTMLayer(made).train(False)

    def theirs(x: Tensor, w: Weights) -> Tensor:
        names = {"q": "q", "k": "k", "v": "v", "ogate_preact": "gate", "igate_preact": "input_gate",
                 "fgate_preact": "forget_gate", "out_proj": "o"}  # fmt: skip
        state = {f"{theirs}.{part}": w[ours + ("_bias" if part == "bias" else "")]
                 for theirs, ours in names.items() for part in ("weight", "bias")}  # fmt: skip
        state |= {"multihead_norm.weight": w["norm_gain"], "multihead_norm.bias": w["norm_bias"]}
        assert set(state) == {name for name, _ in layer.named_parameters()}
        memory, outputs = None, []
        for t in range(TIME):
            y, memory = torch.func.functional_call(layer, state, (x[:, t : t + 1], memory))
            outputs.append(y)
        return torch.cat(outputs, 1)

    compare(our(kind="mlstm", bias=True), theirs)
