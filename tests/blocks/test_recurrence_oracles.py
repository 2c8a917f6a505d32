"""Recurrence blocks against fla's naive functions and transformers' modules, projections written out here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, plan, stage
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from oracles import naive

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
WIDTH, HEADS, KEY, VALUE, TIME = 24, 3, 8, 10, 50
DIMS = {"kind": "recurrence", "heads": HEADS, "key_dim": KEY, "value_dim": VALUE}
Weights = dict[str, Tensor]


def our(**settings: Any) -> Block:
    """The block in this language, float32."""
    return built(block_of(plan([stage("s", {**DIMS, **settings})], width=WIDTH), "mixer")).float()


def inputs() -> tuple[Tensor, Tensor]:
    """x and a cotangent, (2, T, D)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, TIME, WIDTH, generator=generator), torch.randn(2, TIME, WIDTH, generator=generator)


def compare(block: Block, theirs: Callable[[Tensor, Weights], Tensor]) -> None:
    """Output and the gradients of input and weights, by our block and by the function of (x, weights)."""
    x, cotangent = inputs()
    mine_x, their_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = {name: p.detach().clone().requires_grad_() for name, p in block.named_parameters()}
    mine, wanted = block(mine_x, Flow()), theirs(their_x, weights)
    torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-4)
    got = torch.autograd.grad((mine * cotangent).sum(), [mine_x, *block.parameters()])
    expected = torch.autograd.grad((wanted * cotangent).sum(), [their_x, *weights.values()])
    for name, a, b in zip(["x", *weights], got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3 * b.abs().max().item(), msg=lambda m, n=name: f"{n}: {m}")


def heads(x: Tensor, dim: int) -> Tensor:
    """(B, T, H, dim)."""
    return x.view(*x.shape[:2], HEADS, dim)


def root_mean_square(o: Tensor, gain: Tensor) -> Tensor:
    return o / (o.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * gain


def convolve(x: Tensor, taps: Tensor) -> Tensor:
    """silu of a causal depthwise convolution, by torch's conv1d."""
    size = taps.shape[1]
    return F.silu(F.conv1d(F.pad(x.transpose(1, 2), (size - 1, 0)), taps[:, None], groups=taps.shape[0])).transpose(
        1, 2
    )


def test_retention():
    """RetNet: constant decay of each head, rotation in half-split pairs, RMS norm of heads, silu gate."""
    retention = naive("fla.ops.retention.naive:naive_retention")

    def turn(x: Tensor) -> Tensor:
        angle = torch.arange(TIME)[:, None] * 10000.0 ** (-torch.arange(0, KEY, 2) / KEY)
        pairs = torch.complex(x[..., : KEY // 2], x[..., KEY // 2 :]) * torch.polar(torch.ones(()), angle)[:, None]
        return torch.cat((pairs.real, pairs.imag), dim=-1)

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k = (turn(heads(x @ w[name].T, KEY)).transpose(1, 2) for name in "qk")
        o = retention(q, k, heads(x @ w["v"].T, VALUE).transpose(1, 2)).transpose(1, 2)
        o = root_mean_square(o, w["out_norm"]).flatten(2) * F.silu(x @ w["gate"].T)
        return o @ w["o"].T

    settings = {"decay": "head", "update": "outer", "feature": "identity", "conv": 0}
    compare(our(**settings, position={"kind": "rope"}), theirs)


def test_gated_linear_attention():
    """GLA: a decay of each key channel through a narrow projection, log-sigmoid over 16."""
    gla = naive("fla.ops.gla.naive:naive_recurrent_gla")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        gate = F.logsigmoid(x @ w["decay_down"].T @ w["decay_up"].T + w["decay_bias"]) / 16
        q, k, v = heads(x @ w["q"].T, KEY), heads(x @ w["k"].T, KEY), heads(x @ w["v"].T, VALUE)
        o, _ = gla(q, k, v, heads(gate, KEY))
        return (root_mean_square(o, w["out_norm"]).flatten(2) * F.silu(x @ w["gate"].T)) @ w["o"].T

    compare(our(decay="channel", update="outer", feature="identity", conv=0), theirs)


def test_gated_delta_net():
    """Gated DeltaNet: convolutions, unit q and k, a gate and a write strength of each token."""
    delta = naive("fla.ops.gated_delta_rule.naive:naive_recurrent_gated_delta_rule")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = (convolve(x @ w[name].T, w[f"{name}_taps"]) for name in "qkv")
        q, k = (heads(y, KEY) / (heads(y, KEY).pow(2).sum(-1, keepdim=True) + 1e-6).sqrt() for y in (q, k))
        decay = -w["decay_rate"].exp() * F.softplus(x @ w["decay"].T + w["decay_bias"])
        o, _ = delta(q, k, heads(v, VALUE), torch.sigmoid(x @ w["beta"].T), decay)
        return (root_mean_square(o, w["out_norm"]).flatten(2) * F.silu(x @ w["gate"].T)) @ w["o"].T

    compare(our(), theirs)


def test_delta_net():
    """DeltaNet: the delta rule without decay."""
    delta = naive("fla.ops.delta_rule.naive:delta_rule_recurrence")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = (convolve(x @ w[name].T, w[f"{name}_taps"]) for name in "qkv")
        q, k = (heads(y, KEY) / (heads(y, KEY).pow(2).sum(-1, keepdim=True) + 1e-6).sqrt() for y in (q, k))
        streams = (y.transpose(1, 2) for y in (q, k, heads(v, VALUE)))
        o = delta(*streams, torch.sigmoid(x @ w["beta"].T).transpose(1, 2))[0].transpose(1, 2)
        return root_mean_square(o, w["out_norm"]).flatten(2) @ w["o"].T

    compare(our(decay="none", gate="none"), theirs)


def test_linear_attention():
    """Linear attention: elu + 1 features, divided by their sum (Katharopoulos et al. 2020), in its quadratic form."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k = (F.elu(heads(x @ w[name].T, KEY)) + 1 for name in "qk")
        scores = torch.einsum("bthk,bshk->bhts", q, k).tril()
        share = scores / scores.sum(-1, keepdim=True)
        return torch.einsum("bhts,bshv->bthv", share, heads(x @ w["v"].T, VALUE)).flatten(2) @ w["o"].T

    compare(our(decay="none", update="outer", feature="elu", normalizer="sum", conv=0, gate="none"), theirs)


def test_bonus():
    """RWKV-6's reading: the state before the write, and the token itself by a learned weight."""
    rwkv = naive("fla.ops.rwkv6.recurrent_naive:naive_recurrent_rwkv6")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        gate = F.logsigmoid(x @ w["decay_down"].T @ w["decay_up"].T + w["decay_bias"]) / 16
        q, k, v = heads(x @ w["q"].T, KEY), heads(x @ w["k"].T, KEY), heads(x @ w["v"].T, VALUE)
        streams = [y.transpose(1, 2) for y in (q, k, v, heads(gate, KEY))]
        o = rwkv(*streams, w["bonus"], scale=KEY**-0.5)[0].transpose(1, 2)
        return root_mean_square(o, w["out_norm"]).flatten(2) @ w["o"].T

    settings = {"decay": "channel", "update": "outer", "feature": "identity", "conv": 0, "gate": "none"}
    compare(our(**settings, bonus=True), theirs)


def test_qwen3_next_block(monkeypatch: pytest.MonkeyPatch):
    """The whole gated DeltaNet block of Qwen3-Next, with its own projections, convolution, gates and norm."""
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    theirs = importlib.import_module("transformers.models.qwen3_next.modeling_qwen3_next")
    for name in ("torch_chunk_gated_delta_rule", "causal_conv1d_fn"):
        plain = getattr(getattr(theirs, name), "__wrapped__", getattr(theirs, name))
        monkeypatch.setattr(theirs, name, plain)
    config = importlib.import_module("transformers").Qwen3NextConfig(
        hidden_size=WIDTH,
        linear_num_value_heads=HEADS,
        linear_num_key_heads=HEADS,
        linear_key_head_dim=KEY,
        linear_value_head_dim=VALUE,
        linear_conv_kernel_dim=4,
        rms_norm_eps=1e-6,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
    )
    oracle, block = theirs.Qwen3NextGatedDeltaNet(config, layer_idx=0), our()
    _copy(block, oracle)
    x, cotangent = inputs()
    mine_x, their_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    mine, wanted = block(mine_x, Flow()), oracle(their_x)
    (mine * cotangent).sum().backward()
    (wanted * cotangent).sum().backward()
    torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-4)
    assert their_x.grad is not None
    torch.testing.assert_close(mine_x.grad, their_x.grad, rtol=2e-3, atol=2e-3 * their_x.grad.abs().max().item())


def transformers(name: str, config: str, **settings: Any) -> tuple[Any, Any]:
    """A family's modeling module and a small configuration."""
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    made = getattr(importlib.import_module("transformers"), config)(hidden_size=WIDTH, **settings)
    return importlib.import_module(f"transformers.models.{name}.modeling_{name}"), made


def plain_functions(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let a family run its functions of plain torch, without the kernels of other packages."""
    pytest.importorskip("transformers", reason="the oracle transformers is not installed")
    module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    for attribute, value in list(vars(module).items()):
        plain = None if isinstance(value, type) else getattr(value, "__wrapped__", None)
        if plain is not None:
            monkeypatch.setattr(module, attribute, plain)


def call(module: torch.nn.Module, state: Weights, *inputs: Any, **named: Any) -> Any:
    """A module of theirs with our weights under their names; no parameter may be left as it was."""
    assert set(state) == {name for name, _ in module.named_parameters()}
    return torch.func.functional_call(module.train(False), state, inputs, named)


def large(block: Block, scale: float = 0.8) -> Block:
    """The block with every weight drawn anew, and large."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return block


MAMBA2 = {
    "update": "outer", "feature": "identity", "write": "step", "skip": True, "conv_bias": True, "scale": 1.0,
    "gate_at": "before",
}  # fmt: skip


@pytest.mark.parametrize("groups", [1, 3])
def test_mamba2(groups: int):
    """Mamba-2's mixer whole: groups of keys, writes by the step, D, biased taps, gate and then norm by groups."""
    theirs_of, made = transformers(
        "mamba2", "Mamba2Config", num_heads=2 * HEADS, head_dim=VALUE - 2, state_size=KEY, n_groups=groups, expand=2,
        conv_kernel=4, use_bias=False, use_conv_bias=True, num_hidden_layers=1, layer_norm_epsilon=1e-5, chunk_size=16,
    )  # fmt: skip

    def theirs(x: Tensor, w: Weights) -> Tensor:
        state = {
            "in_proj.weight": torch.cat([w[n] for n in ("gate", "v", "k", "q", "decay")]),
            "conv1d.weight": torch.cat([w[f"{n}_taps"] for n in "vkq"])[:, None],
            "conv1d.bias": torch.cat([w[f"{n}_taps_bias"] for n in "vkq"]),
            "dt_bias": w["decay_bias"],
            "A_log": w["decay_rate"],
            "D": w["skip"],
            "norm.weight": w["head_norm.gain"],
            "out_proj.weight": w["o"],
        }
        return call(theirs_of.Mamba2Mixer(made, 0), state, x)

    norm = {"kind": "rms", "groups": groups, "eps": 1e-5}
    settings = {**MAMBA2, "heads": 2 * HEADS, "value_dim": VALUE - 2, "key_heads": groups, "normalizer": norm}
    compare(large(our(**settings)), theirs)


def test_lightning_attention():
    """MiniMax's lightning attention: fixed decays that fall with depth, silu on q, k and v, a norm of all channels."""
    theirs_of, made = transformers(
        "minimax", "MiniMaxConfig", num_attention_heads=HEADS, head_dim=KEY, num_hidden_layers=4, block_size=16,
        layer_types=["linear_attention"] * 4,
    )  # fmt: skip

    def theirs(x: Tensor, w: Weights) -> Tensor:
        fused = torch.cat([w[n].view(HEADS, KEY, WIDTH) for n in "qkv"], 1).flatten(0, 1)
        state = {
            "qkv_proj.weight": fused,
            "out_proj.weight": w["o"],
            "output_gate.weight": w["gate"],
            "norm.weight": w["head_norm.gain"],
        }
        return call(theirs_of.MiniMaxLightningAttention(made, 1), state, x, None, None)[0]

    scale = 1 - 1 / (3 + 1e-5) + 1e-5
    settings = {
        "decay": {"kind": "head", "rates": "alibi", "scale": scale}, "update": "outer", "feature": "identity",
        "conv": 0, "act": "silu", "scale": 1.0, "gate": "sigmoid", "value_dim": KEY,
        "normalizer": {"kind": "rms", "groups": 1},
    }  # fmt: skip
    compare(large(our(**settings), 0.4), theirs)


def test_kimi_delta_attention(monkeypatch: pytest.MonkeyPatch):
    """Kimi Linear's KDA: the delta rule with a decay of each key channel; decay and gate pass narrow projections."""
    plain_functions(monkeypatch, "kimi_linear")
    theirs_of, made = transformers(
        "kimi_linear", "KimiLinearConfig", linear_num_heads=HEADS, linear_head_dim=KEY, linear_conv_kernel_dim=4,
        num_hidden_layers=1, layer_types=["linear_attention"], rms_norm_eps=1e-6, hidden_act="silu",
    )  # fmt: skip

    def theirs(x: Tensor, w: Weights) -> Tensor:
        state = {
            **{f"{n}_proj.weight": w[n] for n in "qkvo"},
            "conv1d.weight": torch.cat([w[f"{n}_taps"] for n in "qkv"])[:, None],
            "forget_gate.f_a_proj.weight": w["decay_down"],
            "forget_gate.f_b_proj.weight": w["decay_up"],
            "forget_gate.dt_bias": w["decay_bias"],
            "forget_gate.A_log": w["decay_rate"].view(1, 1, -1, 1),
            "b_proj.weight": w["beta"],
            "g_a_proj.weight": w["gate_down"],
            "g_b_proj.weight": w["gate_up"],
            "o_norm.weight": w["out_norm"],
        }
        return call(theirs_of.KimiLinearDeltaAttention(made, 0), state, x)

    decay = {"kind": "channel", "form": "softplus", "rank": KEY}
    compare(large(our(decay=decay, gate="sigmoid", gate_rank=KEY, value_dim=KEY)), theirs)


def test_qwen3_next_with_fewer_key_heads(monkeypatch: pytest.MonkeyPatch):
    """Gated DeltaNet where each head of keys serves several of values."""
    plain_functions(monkeypatch, "qwen3_next")
    theirs_of, made = transformers(
        "qwen3_next", "Qwen3NextConfig", linear_num_value_heads=2 * HEADS, linear_num_key_heads=HEADS,
        linear_key_head_dim=KEY, linear_value_head_dim=VALUE, linear_conv_kernel_dim=4, rms_norm_eps=1e-6,
        num_hidden_layers=1, layer_types=["linear_attention"],
    )  # fmt: skip

    def theirs(x: Tensor, w: Weights) -> Tensor:
        sizes = {"q": KEY, "k": KEY, "v": 2 * VALUE, "gate": 2 * VALUE}
        fused = torch.cat([w[name].view(HEADS, size, WIDTH) for name, size in sizes.items()], dim=1).flatten(0, 1)
        state = {
            "in_proj_qkvz.weight": fused,
            "in_proj_ba.weight": torch.cat([w[n].view(HEADS, 2, WIDTH) for n in ("beta", "decay")], 1).flatten(0, 1),
            "conv1d.weight": torch.cat([w[f"{name}_taps"] for name in "qkv"])[:, None],
            "dt_bias": w["decay_bias"],
            "A_log": w["decay_rate"],
            "norm.weight": w["out_norm"],
            "out_proj.weight": w["o"],
        }
        return call(theirs_of.Qwen3NextGatedDeltaNet(made, 0), state, x)

    compare(large(our(heads=2 * HEADS, key_heads=HEADS)), theirs)


def _copy(block: Block, oracle: torch.nn.Module) -> None:
    """Our weights into the oracle's fused layout: q, k, v, z by head; beta and decay by head; taps of q, k, v."""
    w = {name: p.detach() for name, p in block.named_parameters()}
    sizes = {"q": KEY, "k": KEY, "v": VALUE, "gate": VALUE}
    fused = torch.cat([w[name].view(HEADS, size, WIDTH) for name, size in sizes.items()], dim=1).flatten(0, 1)
    state = {
        "in_proj_qkvz.weight": fused,
        "in_proj_ba.weight": torch.stack((w["beta"], w["decay"]), dim=1).flatten(0, 1),
        "conv1d.weight": torch.cat([w[f"{name}_taps"] for name in "qkv"])[:, None],
        "dt_bias": w["decay_bias"],
        "A_log": w["decay_rate"],
        "norm.weight": w["out_norm"],
        "out_proj.weight": w["o"],
    }
    oracle.load_state_dict(state)
