"""JetMoE: experts in both halves of a layer."""

from evo.interop.assemble import Model, Sub
from evo.interop.attention import attention, rope
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.families.experts import MLP, count_of, routed, top_of
from evo.interop.families.llama import AT
from evo.interop.parts import Source, Weights, linear, rms, rows


def jetmoe(c: Config) -> Model:
    """Heads that are experts as well, over shared keys and values; biases of what experts sum up to."""
    at, mlp, top = f"{AT}.self_attention", MLP, top_of(c)
    channels = c.kv_channels * c.num_key_value_heads
    own: Weights = {
        "q": Source(f"{at}.experts.input_linear.weight"),
        "o": Source(f"{at}.experts.output_linear.weight"),
        "o_bias": Source(f"{at}.experts.bias"),
        "head_experts.router": Source(f"{at}.experts.router.layer.weight"),
        **{ours: Source(f"{at}.kv_proj.weight", rows(start, channels)) for ours, start in (("k", 0), ("v", channels))},
    }
    mixer = attention(
        c.num_key_value_heads * top,
        kv_heads=c.num_key_value_heads,
        head_dim=c.kv_channels,
        width=c.hidden_size,
        weights=own,
        bias=["o"],
        head_experts={"count": count_of(c), "top": top, "router": {"balance": 0.0}},
    )
    ffn = routed(
        c,
        c.intermediate_size,
        act=c.activation_function,
        router={},
        gate="router.layer.weight",
        weights={
            **linear("routed.gate", f"{mlp}.input_linear", lambda tensor: tensor[:, : c.intermediate_size]),
            **linear("routed.up", f"{mlp}.input_linear", lambda tensor: tensor[:, c.intermediate_size :]),
            **linear("routed.down", f"{mlp}.output_linear"),
            "bias": Source(f"{mlp}.bias"),
        },
        bias=True,
    )
    norms = ("input_layernorm", "post_attention_layernorm")
    one, other = (rms(f"{AT}.{name}", 1e-6) for name in norms)  # these do not read `rms_norm_eps`
    layers = [[Sub(mixer, pre=one), Sub(ffn, pre=other)] for _ in range(c.num_hidden_layers)]
    return decoder(c, layers, final=rms("model.norm", c.rms_norm_eps), position=rope(c, c.kv_channels))
