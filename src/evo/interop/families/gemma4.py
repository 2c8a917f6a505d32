"""Gemma 4: norms of values, global heads of another width, keys and values of later layers shared, layers scaled."""

from dataclasses import replace
from functools import partial
from typing import Any

from evo.interop.assemble import Layer, Model, Sub
from evo.interop.attention import attention, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.families.llama import AT, capped, position_of, window_of
from evo.interop.parts import Data, Part, Source, act_of, gated, rms, rows, under

SCALAR: Data = {"kind": "learned"}
"""A layer's output is multiplied by a number: what it adds, and what it adds to."""


def gemma4(c: Config) -> Model:
    """The dense ones; those with experts are not covered."""
    if c.get("enable_moe_block", False):
        raise refuse(c, "experts whose router reads through another norm than they do")
    if c.get("use_bidirectional_attention") == "all":
        raise refuse(c, "attention to both sides")
    first = c.num_hidden_layers - c.get("num_kv_shared_layers", 0)
    normed = partial(rms, eps=c.rms_norm_eps)
    layers: list[Layer] = []
    head_dim = _own(c, 0, "head_dim")
    for i in range(c.num_hidden_layers):
        wide = 2 if c.get("use_double_wide_mlp", False) and i >= first else 1
        ffn = gated(f"{AT}.mlp", c.intermediate_size * wide, c.hidden_activation)
        names = ("input", "post_attention", "pre_feedforward", "post_feedforward")
        one, two, three, four = (normed(f"{AT}.{name}_layernorm") for name in names)
        scalar = Source(f"{AT}.layer_scalar")
        scaled: dict[str, Any] = {"gain": SCALAR, "skip": SCALAR, "gain_source": scalar, "skip_source": scalar}
        subs = [Sub(sharing_attention(c, i, first), pre=one, out=two), Sub(ffn, pre=three, out=four)]
        if c.get("hidden_size_per_layer_input"):
            subs.append(Sub(token_table(c, i), out=normed(f"{AT}.post_per_layer_input_norm")))
        layers.append([*subs[:-1], replace(subs[-1], **scaled)])
    return decoder(
        c,
        layers,
        final=normed("model.norm"),
        position=position_of(c, 0, head_dim) or rope(c, head_dim),
        embedding=Part({"scale": c.hidden_size**0.5}),
        readout=capped(c),
    )


def token_table(c: Config, index: int) -> Part:
    """What a layer has of each token: columns of one table, and of one projection of the embedding."""
    channels = c.hidden_size_per_layer_input
    start = index * channels
    norm = rms("model.per_layer_projection_norm", c.rms_norm_eps)
    weights = {
        "table": Source("model.embed_tokens_per_layer.weight", lambda tensor: tensor[:, start : start + channels]),
        "project": Source("model.per_layer_model_projection.weight", rows(start, channels), c.hidden_size**-0.5),
        "gate": Source(f"{AT}.per_layer_input_gate.weight"),
        "down": Source(f"{AT}.per_layer_projection.weight"),
        **under("norm", norm.weights),
    }
    data: Data = {
        "kind": "token_table",
        "channels": channels,
        "act": act_of(c.hidden_activation),
        "scale": channels**0.5,
        "embedded": norm.data,
    }
    return Part(data, weights)


def _own(c: Config, index: int, key: str) -> int:
    """A size of a layer, which global ones have of their own."""
    layers: dict[Any, Data] = c.get("per_layer_config") or {}
    found = layers.get(index, layers.get(str(index), {})).get(key)
    if not layers and window_of(c, index) is None:  # as configurations are published
        keys = {"head_dim": "global_head_dim"}
        if c.get("attention_k_eq_v", False):
            keys["num_key_value_heads"] = "num_global_key_value_heads"
        found = c.get(keys.get(key, key))
    return int(found or c.get(key))


def sharing_attention(c: Config, index: int, first: int) -> Part:
    """The attention of a layer; from `first` on it reads keys and values of the last one of its kind before."""
    at, kind = f"{AT}.self_attn", c.layer_types[index]
    head_dim, is_global = _own(c, index, "head_dim"), window_of(c, index) is None
    has_bias = bool(c.get("attention_bias", False))
    maps = projections(at, biased="qkvo" if has_bias else "")
    norm = rms(f"{at}.q_norm", c.rms_norm_eps)
    options: Data = {"qk_norm": norm.data, "bias": has_bias}
    weights = {**maps, "q_norm.gain": Source(f"{at}.q_norm.weight"), "k_norm.gain": Source(f"{at}.k_norm.weight")}
    unread: tuple[str, ...] = ()
    if index >= first:
        options["kv_from"], unread = kind, ("k", "v", "k_bias", "v_bias", "k_norm.gain")
    else:
        options["v_norm"] = rms("", c.rms_norm_eps, gain=False)
        if c.get("attention_k_eq_v", False) and is_global:
            options["values"], unread = "keys", ("v", "v_bias")
        if first < c.num_hidden_layers and kind not in c.layer_types[index + 1 : first]:
            options["kv_to"] = kind
    return attention(
        c.num_attention_heads,
        kv_heads=_own(c, index, "num_key_value_heads"),
        head_dim=head_dim,
        width=c.hidden_size,
        window=window_of(c, index),
        position=position_of(c, index, head_dim),
        scale=1.0,
        weights={name: source for name, source in weights.items() if name not in unread},
        **options,
    )
