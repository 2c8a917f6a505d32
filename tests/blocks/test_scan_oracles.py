"""Scans against transformers' modules, and Hyena against its sum written out; every weight large."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, plan
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
WIDTH, TIME = 16, 21
Weights = dict[str, Tensor]


def family(name: str) -> Any:
    """A family's modeling module, or a skip with the reason."""
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    return importlib.import_module(f"transformers.models.{name}.modeling_{name}")


def config(name: str, **settings: Any) -> Any:
    """A small configuration of some class of transformers."""
    return getattr(importlib.import_module("transformers"), name)(hidden_size=WIDTH, num_hidden_layers=1, **settings)


def ours(scale: float = 1.0, **data: Any) -> Block:
    """The block in this language, float64, with large weights."""
    whole = plan([{"name": "s", "layers": {"sublayers": [{"block": data}]}}], context=TIME)
    block = built(block_of(whole, "0"))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale)
    return block


def compare(block: Block, theirs: Callable[[Tensor, Weights], Tensor]) -> None:
    """Outputs and the gradients of the input and of every weight, in float64."""
    generator = torch.Generator().manual_seed(0)
    x, cotangent = (torch.randn(2, TIME, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
    mine_x, their_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = {name: p.detach().clone().requires_grad_() for name, p in block.named_parameters()}
    mine, wanted = block(mine_x, Flow()), theirs(their_x, weights)
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6 * float(wanted.detach().abs().max()))
    got = torch.autograd.grad((mine * cotangent).sum(), [mine_x, *block.parameters()])
    expected = torch.autograd.grad((wanted * cotangent).sum(), [their_x, *weights.values()])
    for name, a, b in zip(["x", *weights], got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")


def call(module: nn.Module, state: Weights, *inputs: Any, **named: Any) -> Any:
    """A module of theirs in float64 with our weights under their names; no parameter may be left as it was."""
    module = module.double().train(False)
    assert set(state) == {name for name, _ in module.named_parameters()}
    return torch.func.functional_call(module, state, inputs, named)


def mamba_names(w: Weights) -> Weights:
    """Our selective scan under the names of Mamba-1's modules."""
    return {
        "in_proj.weight": torch.cat((w["x"], w["gate"])),
        "conv1d.weight": w["taps"][:, None],
        "conv1d.bias": w["taps_bias"],
        "x_proj.weight": torch.cat((w["step_down"], w["b"], w["c"])),
        "dt_proj.weight": w["step_up"],
        "dt_proj.bias": w["step_bias"],
        "A_log": w["decay_rate"],
        "D": w["skip"],
        "out_proj.weight": w["o"],
    }


def test_mamba():
    """Mamba-1's mixer, with biases on its projections."""
    made = config("MambaConfig", state_size=4, intermediate_size=32, time_step_rank=2, use_bias=True, use_mambapy=False)

    def theirs(x: Tensor, w: Weights) -> Tensor:
        biases = {"in_proj.bias": torch.cat((w["x_bias"], w["gate_bias"])), "out_proj.bias": w["o_bias"]}
        return call(family("mamba").MambaMixer(made, 0), {**mamba_names(w), **biases}, x)

    compare(ours(kind="selective_scan", state=4, rank=2, bias=True), theirs)


def test_jamba():
    """Jamba's mixer: the step, B and C are normalised, each with gains."""
    made = config("JambaConfig", mamba_d_state=4, mamba_dt_rank=2, mamba_expand=2, use_mamba_kernels=False)

    def theirs(x: Tensor, w: Weights) -> Tensor:
        names = {"dt_layernorm": "step_norm", "b_layernorm": "b_norm", "c_layernorm": "c_norm"}
        norms = {f"{theirs}.weight": w[f"{mine}.gain"] for theirs, mine in names.items()}
        return call(family("jamba").JambaMambaMixer(made, 0), {**mamba_names(w), **norms}, x)

    compare(ours(kind="selective_scan", state=4, rank=2, inner_norm={"kind": "rms"}), theirs)


def test_recurrent_gemma():
    """RecurrentGemma's recurrent block, biases and all."""
    made = config("RecurrentGemmaConfig", lru_width=24, num_attention_heads=4, conv1d_width=4)

    def theirs(x: Tensor, w: Weights) -> Tensor:
        state = {
            "conv_1d.weight": w["taps"][:, None],
            "conv_1d.bias": w["taps_bias"],
            "rg_lru.recurrent_param": w["decay_rate"],
            "rg_lru.input_gate_weight": w["input_gate"].mT,
            "rg_lru.input_gate_bias": w["input_gate_bias"],
            "rg_lru.recurrent_gate_weight": w["decay_gate"].mT,
            "rg_lru.recurrent_gate_bias": w["decay_gate_bias"],
        }
        for name, ours in (("linear_x", "x"), ("linear_y", "gate"), ("linear_out", "o")):
            state |= {f"{name}.weight": w[ours], f"{name}.bias": w[f"{ours}_bias"]}
        block = family("recurrent_gemma").RecurrentGemmaRecurrentBlock(made, 0)
        places = torch.arange(TIME)[None].expand(2, -1)
        return call(block, state, x, places, None, use_cache=False)[0]

    compare(ours(kind="rg_lru", heads=4, inner=24, bias=True), theirs)


def test_rwkv_4():
    """RWKV-4's time mixing, with keys and decays large enough to need their largest exponent taken out."""
    made = config("RwkvConfig", attention_hidden_size=24)

    def theirs(x: Tensor, w: Weights) -> Tensor:
        state = {
            "time_decay": w["decay_rate"],
            "time_first": w["bonus"],
            **{f"time_mix_{n}": w[f"{n[0]}_mix"][None, None] for n in ("key", "value", "receptance")},
            **{f"{n}.weight": w[n[0]] for n in ("key", "value", "receptance", "output")},
        }
        return call(family("rwkv").RwkvSelfAttention(made, 0), state, x)[0]

    compare(ours(kind="wkv", inner=24), theirs)


def test_rwkv_4_channel_mix():
    """RWKV-4's feed-forward."""
    made = config("RwkvConfig", intermediate_size=40)

    def theirs(x: Tensor, w: Weights) -> Tensor:
        state = {
            **{f"time_mix_{n}": w[f"{n[0]}_mix"][None, None] for n in ("key", "receptance")},
            **{f"{n}.weight": w[n[0]] for n in ("key", "value", "receptance")},
        }
        return call(family("rwkv").RwkvFeedForward(made, 0), state, x)[0]

    compare(ours(kind="channel_mix", hidden=40), theirs)


def test_hyena():
    """Hyena's operator with its convolutions as sums over all pairs of positions, after the published definition."""

    def toeplitz(h_DL: Tensor) -> Tensor:
        """H[d, t, s] = h[d, t - s] for s <= t."""
        distance = torch.arange(TIME)[:, None] - torch.arange(TIME)
        return torch.where(distance >= 0, h_DL[:, distance.clamp_min(0)], 0.0)

    def theirs(x: Tensor, w: Weights) -> Tensor:
        z = F.conv1d(F.pad((x @ w["x"].T).mT, (2, 0)), w["taps"][:, None], w["taps_bias"], groups=3 * WIDTH)
        t = torch.linspace(0, 1, TIME, dtype=torch.float64)[:, None]
        phase = torch.exp(-1j * torch.tensor([1e-4, 1.0]) * 2 * math.pi * torch.arange(TIME)[:, None] / TIME)
        hidden = torch.cat((t, phase.real, phase.imag), -1)
        for layer in range(3):
            hidden = torch.sin(w["frequency"] * (hidden @ w[f"filter{layer}.weight"].T + w[f"filter{layer}.bias"]))
        rates = torch.linspace(math.log(1e-2) / 1.5, math.log(1e-2) / 0.3, WIDTH, dtype=torch.float64)
        window = torch.exp(-t * rates.abs()) + 0.05
        filters = (hidden @ w["filter_out.weight"].T).view(TIME, 2, WIDTH) * window[:, None]
        v, *gates = z.chunk(3, 1)
        for order, gate in enumerate(gates):
            mixed = torch.einsum("dts,bds->bdt", toeplitz(filters[:, order].T), v)
            v = gate * (mixed + w["skip"][order][:, None] * v)
        return v.mT @ w["o"].T

    compare(ours(kind="hyena", hidden=8, shift=0.05), theirs)
