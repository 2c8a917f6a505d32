"""Gemma 3n: streams of which a layer computes one, low-rank maps beside attention, tables of tokens on the others."""

from dataclasses import replace
from functools import partial

from evo.interop.assemble import Beside, Layer, Model, Sub
from evo.interop.attention import rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.families.gemma4 import sharing_attention, token_table
from evo.interop.families.llama import AT, capped, position_of
from evo.interop.parts import Data, Part, Source, Weights, act_of, gated, rms, rows, under

HALF = 0.5**0.5
"""What a sum of two is multiplied by, so that it is as large as one of them."""


def gemma3n(c: Config) -> Model:
    """The text model. Tokens that its tables of layers do not have, of pictures and sounds, are left out."""
    if c.altup_active_idx != 0 or not c.get("altup_correct_scale", True):
        raise refuse(c, "layers that compute another stream than the first, or tables that read it without gains")
    text = c.but({"vocab_size": min(c.vocab_size, c.vocab_size_per_layer_input)})
    final = rms("model.norm", c.rms_norm_eps)
    streams: Data = {"kind": "altup", "count": c.altup_num_inputs, "aside": 1, "eps": c.rms_norm_eps}
    model = decoder(
        text,
        [_layer(c, i) for i in range(c.num_hidden_layers)],
        final=final,
        position=position_of(c, 0, c.head_dim) or rope(c, c.head_dim),
        embedding=Part({"scale": c.hidden_size**0.5}),
        readout=capped(c),
        streams=Part(streams, _maps(c, "altup_unembed_projections")),
        begin=_maps(c, "altup_projections"),
    )
    tokens = replace(model.weights["embedding.weight"], view=rows(0, text.vocab_size))
    return Model(model.organism, {**model.weights, "embedding.weight": tokens})


def _maps(c: Config, name: str) -> Weights:
    """The maps of all streams but the first."""
    return {f"map{i}": Source(f"model.{name}.{i - 1}.weight") for i in range(1, c.altup_num_inputs)}


def _layer(c: Config, index: int) -> Layer:
    """(x + attention(n) + n + norm(W n)) / sqrt(2) with n = norm(x), a feed-forward, and the layer's table."""
    normed = partial(rms, eps=c.rms_norm_eps)
    names = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    one, two, three, four = (normed(f"{AT}.{name}_layernorm") for name in names)
    first = c.num_hidden_layers - c.get("num_kv_shared_layers", 0)
    attention = Sub(sharing_attention(c, index, first), out=two, gain=HALF, streams=_altup(c))
    ffn = gated(f"{AT}.mlp", c.intermediate_size[index], _act(c, index))
    return [
        Beside((attention, Sub(_laurel(c), gain=HALF)), pre=one, skip=HALF),
        Sub(ffn, pre=three, out=four),
        Sub(token_table(c, index), out=normed(f"{AT}.post_per_layer_input_norm")),
    ]


def _act(c: Config, index: int) -> str | Data:
    """The activation, behind a cut that leaves a share of the units if there is one."""
    act, share = act_of(c.hidden_activation), c.activation_sparsity_pattern[index]
    return {"kind": "top_gauss", "share": share, "act": act} if share else act


def _laurel(c: Config) -> Part:
    """A map of low rank, normed, beside what it reads."""
    norm = rms(f"{AT}.laurel.post_laurel_norm", c.rms_norm_eps)
    data: Data = {"kind": "linear", "rank": c.laurel_rank, "norm": norm.data, "residual": True}
    maps = {"inner": Source(f"{AT}.laurel.linear_left.weight"), "o": Source(f"{AT}.laurel.linear_right.weight")}
    return Part(data, {**maps, **under("norm", norm.weights)})


def _altup(c: Config) -> Weights:
    """The weights of what stands around a layer."""
    at = f"{AT}.altup"
    return {
        "router": Source(f"{at}.modality_router.weight"),
        "predict": Source(f"{at}.prediction_coefs.weight"),
        "correct": Source(f"{at}.correction_coefs.weight"),
        "aside_gain": Source(f"{at}.correct_output_scale"),
        **under("norm", rms(f"{at}.router_norm", c.rms_norm_eps).weights),
    }
