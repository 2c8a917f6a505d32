"""Llama and those that differ from it by a setting or two."""

from evo.interop.assemble import Model, Sub
from evo.interop.attention import NO_POSITION, attention, biases, projections, rope
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.parts import dense, gated, rms

QKV_BIASED = {"qwen2"}
NORMED = {"qwen3"}


def llama(c: Config) -> Model:
    """Pre-norm RMS, rotated grouped attention, a gated feed-forward."""
    head_dim = c.get("head_dim", c.hidden_size // c.num_attention_heads)
    letters = "qkv" if c.type in QKV_BIASED else "qkvo" if c.get("attention_bias", False) else ""
    layers = []
    for i in range(c.num_hidden_layers):
        at = "model.layers.{i}"
        norms = None
        if c.type in NORMED:
            norms = tuple(rms(f"{at}.self_attn.{k}_norm", c.rms_norm_eps) for k in "qk")
        mixer = attention(
            c.num_attention_heads,
            kv_heads=c.get("num_key_value_heads"),
            head_dim=head_dim,
            width=c.hidden_size,
            window=window_of(c, i),
            norms=norms,
            bias=biases(letters),
            position=position_of(c, i, head_dim),
            weights=projections(f"{at}.self_attn", biased=letters),
        )
        has_gate = c.type != "arcee"
        make = gated if has_gate else dense
        names = {} if has_gate else {"up": "up_proj", "down": "down_proj"}
        ffn = make(f"{at}.mlp", c.intermediate_size, c.hidden_act, bias=c.get("mlp_bias", False), **names)
        layers.append(
            [
                Sub(mixer, pre=rms(f"{at}.input_layernorm", c.rms_norm_eps)),
                Sub(ffn, pre=rms(f"{at}.post_attention_layernorm", c.rms_norm_eps)),
            ]
        )
    return decoder(c, layers, final=rms("model.norm", c.rms_norm_eps), position=rope(c, head_dim))


def window_of(c: Config, index: int) -> int | None:
    """The window of a layer: of every one, or of those that `layer_types` names."""
    types = c.get("layer_types")
    if types is not None:
        return c.get("sliding_window") if types[index] == "sliding_attention" else None
    return c.get("sliding_window") if c.get("use_sliding_window", True) else None


def position_of(c: Config, index: int, head_dim: int) -> dict | None:
    """The position encoding of a layer where it is not that of the organism."""
    kept = c.get("no_rope_layers")
    return NO_POSITION if kept is not None and not kept[index] else None
