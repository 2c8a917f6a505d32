"""RecurrentGemma: gated linear recurrences, and a window of attention in every third layer."""

import struct

from evo.interop.assemble import Layer, Model, Sub
from evo.interop.attention import attention, projections, rope
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.families.llama import AT
from evo.interop.parts import Data, Part, Source, gated, linear, rms


def recurrent_gemma(c: Config) -> Model:
    """Two layers of RG-LRU, then one of windowed attention."""
    width, heads = c.hidden_size, c.num_attention_heads
    inner = c.get("lru_width") or width
    layers: list[Layer] = []
    for i in range(c.num_hidden_layers):
        at = f"{AT}.temporal_block"
        if c.block_types[i % len(c.block_types)] == "attention":
            biased = "qkvo" if c.attention_bias else "o"
            mixer = attention(
                heads,
                kv_heads=c.num_key_value_heads,
                head_dim=c.head_dim,
                width=width,
                window=c.attention_window_size,
                bias=True if c.attention_bias else ["o"],
                weights=projections(at, biased=biased),
            )
        else:
            weights = {
                **linear("x", f"{at}.linear_x", bias=True),
                **linear("gate", f"{at}.linear_y", bias=True),
                **linear("o", f"{at}.linear_out", bias=True),
                "taps": Source(f"{at}.conv_1d.weight"),
                "taps_bias": Source(f"{at}.conv_1d.bias"),
                "decay_rate": Source(f"{at}.rg_lru.recurrent_param"),
                "input_gate": Source(f"{at}.rg_lru.input_gate_weight", lambda tensor: tensor.transpose(1, 2)),
                "input_gate_bias": Source(f"{at}.rg_lru.input_gate_bias"),
                "decay_gate": Source(f"{at}.rg_lru.recurrent_gate_weight", lambda tensor: tensor.transpose(1, 2)),
                "decay_gate_bias": Source(f"{at}.rg_lru.recurrent_gate_bias"),
            }
            data: Data = {"kind": "rg_lru", "heads": heads, "conv": c.conv1d_width, "bias": True}
            mixer = Part({**data, **({"inner": inner} if inner != width else {})}, weights)
        ffn = gated(f"{AT}.mlp_block", c.intermediate_size // 2, c.hidden_activation, bias=True)
        names = ("temporal_pre_norm", "channel_pre_norm")
        one, other = (rms(f"{AT}.{name}", c.rms_norm_eps, one_plus=True) for name in names)
        layers.append([Sub(mixer, pre=one), Sub(ffn, pre=other)])
    return decoder(
        c,
        layers,
        final=rms("model.final_norm", c.rms_norm_eps, one_plus=True),
        position=rope(c, c.head_dim),
        context=c.get("max_position_embeddings", 8192),
        embedding=Part({"scale": to_bfloat16(width**0.5)}),
        readout=Part({"soft_cap": float(c.logits_soft_cap)}),
    )


def to_bfloat16(x: float) -> float:
    """The nearest number in bfloat16, in which RecurrentGemma keeps its constant."""
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    rounded = bits + 0x7FFF + (bits >> 16 & 1)
    return struct.unpack("<f", struct.pack("<I", rounded & 0xFFFF0000))[0]
