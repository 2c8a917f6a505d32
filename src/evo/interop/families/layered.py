"""Llama's layout with layer norms: Phi, StableLM, StarCoder 2, Nemotron, Jais 2."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from evo.interop.assemble import Model
from evo.interop.attention import attention, biases, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.families.gpt import two
from evo.interop.families.llama import up_down, window_of
from evo.interop.parts import Part, Source, dense, gated, layer


@dataclass(frozen=True)
class Layered:
    """What differs between types of Llama's layout with layer norms.

    biased: keys that say whether the maps named by `letters` have a bias, of which the first that is there counts; if
    none are named, they have. out: the map behind attention. parallel: whether attention and feed-forward stand beside
    each other, or the key that says so. final: the last norm. one_plus: whether gains are stored less one. readout:
    whether it has a bias. ffn: the feed-forward at a place.
    """

    ffn: Callable[[Config, str], Part]
    biased: tuple[str, ...] = ("use_bias", "attention_bias")
    letters: str = "qkvo"
    out: str = "o_proj"
    parallel: bool | str = False
    final: str = "model.norm"
    one_plus: bool = False
    readout: bool = False


LAYERED = {
    "phi": Layered(
        lambda c, at: dense(at, c.intermediate_size, c.hidden_act),
        biased=(),
        out="dense",
        parallel=True,
        final="model.final_layernorm",
        readout=True,
    ),
    "stablelm": Layered(
        lambda c, at: gated(at, c.intermediate_size, c.hidden_act),
        biased=("use_qkv_bias",),
        letters="qkv",
        parallel="use_parallel_residual",
    ),
    "starcoder2": Layered(
        lambda c, at: dense(at, c.intermediate_size, c.hidden_act, bias=c.use_bias, up="c_fc", down="c_proj")
    ),
    "nemotron": Layered(lambda c, at: up_down(c), one_plus=True),
    "jais2": Layered(lambda c, at: up_down(c)),
}


def layered(c: Config) -> Model:
    """Llama's layout with layer norms: Phi, StableLM, StarCoder 2, Nemotron, Jais 2."""
    s, heads = LAYERED[c.type], c.num_attention_heads
    head_dim = c.get("head_dim") or c.hidden_size // heads
    eps = c.get("layer_norm_eps") or c.get("norm_epsilon") or c.get("norm_eps")
    norm = partial(layer, eps=eps, one_plus=s.one_plus)
    said = [value for key in s.biased if (value := c.get(key)) is not None]
    biased = s.letters if not s.biased or (said and said[0]) else ""
    parallel = bool(getattr(c, s.parallel)) if isinstance(s.parallel, str) else s.parallel
    if c.get("qk_layernorm", False):
        raise refuse(c, "layer norms of q and k")
    layers = []
    for i in range(c.num_hidden_layers):
        at = "model.layers.{i}"
        mixer = attention(
            heads,
            kv_heads=c.get("num_key_value_heads"),
            head_dim=head_dim,
            width=c.hidden_size,
            window=window_of(c, i),
            bias=biases(biased),
            weights=projections(f"{at}.self_attn", ("q_proj", "k_proj", "v_proj", s.out), biased=biased),
        )
        second = None if parallel else norm(f"{at}.post_attention_layernorm")
        layers.append(two(mixer, s.ffn(c, f"{at}.mlp"), norm(f"{at}.input_layernorm"), second, parallel=parallel))
    readout = Part({"bias": True}, {"bias": Source("lm_head.bias")}) if s.readout else Part({})
    return decoder(c, layers, final=norm(s.final), position=rope(c, head_dim), readout=readout)
