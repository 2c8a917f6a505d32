"""Layers whose queries, keys, values or branches pass short convolutions: Inkling, ZAYA1."""

from functools import partial
from typing import Any

from evo.interop.assemble import Layer, Model, Sub
from evo.interop.attention import NO_POSITION, attention, projections, rope
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.experts import experts, stacks
from evo.interop.families.experts import MLP, is_sparse
from evo.interop.families.llama import AT
from evo.interop.parts import Data, Part, Source, View, act_of, gated, linear, rms, rows, under

TINY = 1e-30
"""Of a norm that only keeps from dividing by zero."""


def inkling(c: Config) -> Model:
    """Biases that queries mix by distance, convolved keys, values and branches, shared experts by score."""
    c = c.but({"tie_word_embeddings": False})
    layers: list[Layer] = []
    for i in range(c.num_hidden_layers):
        one, other = (rms(f"{AT}.{name}_layernorm", c.rms_norm_eps) for name in ("input", "post_attention"))
        sparse = is_sparse(c, i)
        ffn = _experts(c) if sparse else gated(MLP, c.intermediate_size, c.hidden_act)
        scale = Source(f"{MLP}.gate.global_scale" if sparse else f"{MLP}.global_scale")
        layers.append(
            [
                Sub(_convolved(c, _mixer(c, i), "attn_sconv"), pre=one),
                Sub(_convolved(c, ffn, "mlp_sconv"), pre=other, gain={"kind": "learned"}, gain_source=scale),
            ]
        )
    start = rms("model.embed_tokens.embed_norm", c.rms_norm_eps)
    return decoder(
        c,
        layers,
        final=rms("model.norm", c.rms_norm_eps),
        position=NO_POSITION,
        embedding=Part({"norm": start.data}, under("norm", start.weights)),
        readout=Part({"scale": 1.0 / c.logits_mup_width_multiplier}),
    )


def _convolved(c: Config, block: Part, name: str) -> Part:
    """A block, and a convolution behind it that adds to it what it gives."""
    taps: Data = {"kind": "convolution", "size": c.conv_kernel_size, "maps": False, "residual": True}
    weights = {"link1.taps": Source(f"{AT}.{name}.conv1d.weight", _flat)}
    return Part({"chain": [block.data, taps]}, {**under("link0", block.weights), **weights})


def _flat(tensor: Any) -> Any:
    """Taps that torch keeps as (channel, 1, taps)."""
    return tensor.squeeze(1)


def _mixer(c: Config, index: int) -> Part:
    """An attention; local ones have heads of their own, and scores of the others grow with position."""
    at, is_local = f"{AT}.self_attn", c.layer_types[index] == "hybrid_sliding"
    own = "swa_" if is_local else ""
    heads, head_dim = c.get(f"{own}num_attention_heads"), c.get(f"{own}head_dim")
    extent = c.sliding_window_size if is_local else c.rel_extent
    weights = {
        **projections(at),
        **{f"{name}_taps": Source(f"{at}.{name}_sconv.conv1d.weight", _flat) for name in "kv"},
        "position.r": Source(f"{at}.r_proj.weight"),
        "position.profiles": Source(f"{at}.rel_logits_proj.proj", lambda tensor: tensor.T),
    }
    heat = None
    if c.get("log_scaling_n_floor") and not is_local:
        heat = {"slope": c.log_scaling_alpha, "period": c.log_scaling_n_floor, "form": "smooth", "first": 1}
    return attention(
        heads,
        kv_heads=c.get(f"{own}num_key_value_heads"),
        head_dim=head_dim,
        width=c.hidden_size,
        window=c.sliding_window_size if is_local else None,
        norms=(rms(f"{at}.q_norm", c.rms_norm_eps), rms(f"{at}.k_norm", c.rms_norm_eps)),
        scale=1.0 / head_dim,
        temperature=heat,
        taps={"size": c.conv_kernel_size, "on": ["k", "v"], "residual": True},
        position={"kind": "queried", "rank": c.d_rel, "extent": extent},
        weights=weights,
    )


def _experts(c: Config) -> Part:
    """Sigmoid scores with a bias of the choice; the shares of the chosen and the shared ones sum up to one."""
    one: Data = {"kind": "gated", "hidden": c.moe_intermediate_size, "act": act_of(c.hidden_act)}
    data: Data = {
        "kind": "experts",
        "of": one,
        "count": c.n_routed_experts,
        "top": c.num_experts_per_tok,
        "router": {"score": "sigmoid", "choice_bias": True, "scale": float(c.route_scale)},
        "shared": [{"ffn": one, "gate": "routed"}] * c.n_shared_experts,
    }
    weights = {
        **stacks(f"{MLP}.experts", c.moe_intermediate_size),
        "router": Source(f"{MLP}.gate.weight"),
        "choice_bias": Source(f"{MLP}.gate.e_score_correction_bias"),
    }
    for name in ("gate", "up", "down"):
        for index in range(c.n_shared_experts):
            weights[f"shared{index}.{name}"] = Source(f"{MLP}.shared_experts.{name}_proj", _entry(index))
    return Part(data, weights)


def _entry(index: int) -> View:
    return lambda tensor: tensor[index]


def zaya(c: Config) -> Model:
    """Two convolutions of queries and keys, routers that read the one before, scaled and shifted residuals."""
    layers: list[Layer] = []
    for i in range(c.num_hidden_layers):
        one, other = (rms(f"{AT}.{name}_layernorm", c.rms_norm_eps) for name in ("input", "post_attention"))
        layers.append([_scaled("attention", _compressed(c, i), one), _scaled("mlp", _experts_by_network(c, i), other)])
    ends = {"gain": Source("model.input_hidden_states_scale"), "bias": Source("model.input_hidden_states_bias")}
    return decoder(
        c,
        layers,
        final=rms("model.norm", c.rms_norm_eps),
        position=rope(c, c.head_dim, c.rope_parameters["hybrid"]),
        embedding=Part({"bias": True, "gain": True}, ends),
        readout=Part({"bias": True}, {"bias": Source("lm_head.bias")}) if c.get("lm_head_bias") else None,
    )


def _scaled(name: str, block: Part, norm: Part) -> Sub:
    """A sublayer whose stream and branch are both shifted and scaled, channel by channel."""
    learned: Data = {"kind": "learned", "per": "channel", "shift": True}
    at = f"{AT}.post_{name}_residual_scale"
    return Sub(
        block,
        pre=norm,
        gain=learned,
        skip=learned,
        gain_source=Source(f"{at}.hidden_states_scale"),
        gain_shift=Source(f"{at}.hidden_states_bias"),
        skip_source=Source(f"{at}.residual_scale"),
        skip_shift=Source(f"{at}.residual_bias"),
    )


def _compressed(c: Config, index: int) -> Part:
    """Compressed convolutional attention (2510.04476)."""
    heads, kv_heads, dim = c.num_attention_heads, c.num_key_value_heads, c.head_dim
    at, biased = f"{AT}.self_attn", bool(c.get("attention_bias", False))
    weights = {**linear("o", f"{at}.o_proj", bias=biased), "key_gain": Source(f"{at}.qk_norm.temp")}
    for ours, theirs in {"q": "q", "k": "k", "v": "v", "v_late": "v"}.items():
        later = {"v": "_current", "v_late": "_delayed"}.get(ours, "")
        weights |= linear(ours, f"{at}.qkv_proj.{theirs}_proj{later}", bias=biased)
    for ours, start, size in (("q", 0, heads), ("k", heads * dim, kv_heads)):
        own = rows(start, size * dim)
        for step, theirs, view in (("taps", "depthwise", _flat_rows), ("mix", "grouped", _by_head)):
            name = f"{at}.qkv_proj.conv_qk_{theirs}"
            weights |= {
                f"{ours}_{step}": Source(f"{name}.weight", partial(view, own, size)),
                f"{ours}_{step}_bias": Source(f"{name}.bias", own),
            }
    kind = c.layer_types[index]
    position = None if kind == "hybrid" else rope(c, dim, c.rope_parameters[kind])
    return attention(
        heads,
        kv_heads=kv_heads,
        head_dim=dim,
        width=c.hidden_size,
        window=None if kind == "hybrid" else c.sliding_window,
        bias=biased,
        values="halves",
        key_gain=True,
        qk_norm={"kind": "rms", "gain": False, "eps": TINY},
        taps={"size": c.cca_time0, "on": ["q", "k"], "mix": c.cca_time1, "bias": True, "residual": "paired"},
        position=position,
        weights=weights,
    )


def _flat_rows(own: View, heads: int, tensor: Any) -> Any:
    """The depthwise taps of some channels."""
    del heads
    return own(tensor).squeeze(1)


def _by_head(own: View, heads: int, tensor: Any) -> Any:
    """The taps of some heads that torch keeps as (channel, channel of the head, taps), the taps before the inputs."""
    return own(tensor).unflatten(0, (heads, -1)).transpose(2, 3)


def _experts_by_network(c: Config, index: int) -> Part:
    """One expert a token, or none, by a network on narrow vectors that pass on from layer to layer."""
    norm = rms(f"{MLP}.gate.router_mlp.norm", c.rms_norm_eps)
    network: Data = {"width": c.router_hidden_size, "norm": norm.data, "to": "routers"}
    weights = {
        **stacks(f"{MLP}.experts", c.moe_intermediate_size),
        **linear("network.in", f"{MLP}.gate.down_proj", bias=True),
        **linear("network.hidden0", f"{MLP}.gate.router_mlp.fc1", bias=True),
        **linear("network.hidden1", f"{MLP}.gate.router_mlp.fc2", bias=True),
        **under("network.norm", norm.weights),
    }
    if index:
        network["from"] = "routers"
        weights["network.earlier"] = Source(f"{MLP}.gate.router_states_scale")
    return experts(
        MLP,
        count=c.num_experts,
        top=c.num_experts_per_tok,
        hidden=c.moe_intermediate_size,
        act=c.hidden_act,
        router={"renormalise": False, "choice_bias": True, "network": network},
        gate="gate.router_mlp.out_proj.weight",
        choice_bias="gate.balancing_biases",
        weights=weights,
        skip=1,
    )
