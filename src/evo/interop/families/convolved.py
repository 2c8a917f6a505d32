"""Layers whose keys, values and branches pass short convolutions: Inkling."""

from typing import Any

from evo.interop.assemble import Layer, Model, Sub
from evo.interop.attention import NO_POSITION, attention, projections
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.experts import stacks
from evo.interop.families.experts import MLP, is_sparse
from evo.interop.families.llama import AT
from evo.interop.parts import Data, Part, Source, View, act_of, gated, rms, under


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
