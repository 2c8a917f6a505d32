"""Stages that run again and again: the text form of the Hierarchical Reasoning Model."""

from __future__ import annotations

from evo.interop.assemble import Model, Sub, stage_of
from evo.interop.attention import attention, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import staged
from evo.interop.parts import Data, Part, Source, Weights, gated, linear, rms


def hrm_text(c: Config) -> Model:
    """A fast and a slow stack of gated attention, whose states are added to each other.

    Prefixes that it reads both ways are told apart beside the text: of a text alone, it is causal.
    """
    fast, fast_weights = _stack(c, "fast", "model.L_module")
    slow, slow_weights = _stack(c, "slow", "model.H_module")
    through = list(c.get("L_bp_cycles") or [2])
    through = ([1] * max(0, c.H_cycles - len(through)) + through)[: c.H_cycles]
    stage: Data = {
        "name": "think",
        "kind": "cycles",
        "of": fast,
        "slow": slow,
        "times": c.H_cycles,
        "turns": c.L_cycles,
        "start": "learned",
    }
    if min(through) < 1:
        raise refuse(c, f"cycles without a gradient (`L_bp_cycles: {through}`)")
    if any(number < c.L_cycles for number in through):
        stage["backprop"] = [min(number, c.L_cycles) for number in through]
    head_dim = c.get("head_dim") or c.hidden_size // c.num_attention_heads
    return staged(
        c,
        [(stage, {}, {"stages.think.start": Source("model.z_L_init"), **fast_weights, **slow_weights})],
        final=None,
        position=rope(c, head_dim),
        embedding=Part({"scale": float(c.get("embedding_scale") or 1.0 / c.get("initializer_range", 0.02))}),
    )


def _stack(c: Config, name: str, theirs: str) -> tuple[Data, Weights]:
    """One of the two stages, with its weights by path."""
    at, norm = f"{theirs}.layers.{{i}}", rms("", c.rms_norm_eps, gain=False)
    heads, biased = c.num_attention_heads, bool(c.get("attention_bias", False))
    weights = projections(f"{at}.self_attn", biased="qkvo" if biased else "")
    weights |= linear("gate", f"{at}.self_attn.gate_proj", bias=biased)
    head_dim = c.get("head_dim") or c.hidden_size // heads
    mixer = attention(heads, head_dim=head_dim, width=c.hidden_size, bias=biased, gate="channel", weights=weights)
    ffn = gated(f"{at}.mlp", c.intermediate_size, c.hidden_act, bias=bool(c.get("mlp_bias", False)))
    layers = [[Sub(mixer, pre=norm), Sub(ffn, pre=norm)]] * (c.get("num_layers_per_stack") or c.num_hidden_layers)
    stage, _, own = stage_of(layers, name, end=norm)
    return stage, {path.replace("stages.", "stages.think.of_", 1): source for path, source in own.items()}
