"""GPT-2 and its line: learned positions, layer norms, dense feed-forwards."""

from evo.interop.assemble import Model, Sub
from evo.interop.attention import attention, fused
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.parts import Source, dense, layer, linear, transposed


def gpt2(c: Config) -> Model:
    """Matrices are stored (in, out); q, k and v in one."""
    width, heads = c.n_embd, c.n_head
    if c.get("scale_attn_by_inverse_layer_idx", False) or c.get("add_cross_attention", False):
        raise refuse(c, "scores divided by the layer's number, or cross attention")
    hidden = c.get("n_inner") or 4 * width
    layers = []
    for _ in range(c.n_layer):
        at = "transformer.h.{i}"
        weights = fused(f"{at}.attn.c_attn", dict.fromkeys("qkv", width), bias=True, view=transposed)
        weights |= linear("o", f"{at}.attn.c_proj", transposed)
        weights["o_bias"] = Source(f"{at}.attn.c_proj.bias")
        mixer = attention(heads, head_dim=width // heads, width=width, bias=True, weights=weights)
        ffn = dense(f"{at}.mlp", hidden, c.activation_function, up="c_fc", down="c_proj")
        for name in ("up", "down"):
            ffn.weights[name] = Source(ffn.weights[name].name, transposed)
        eps = c.layer_norm_epsilon
        layers.append([Sub(mixer, pre=layer(f"{at}.ln_1", eps)), Sub(ffn, pre=layer(f"{at}.ln_2", eps))])
    return decoder(
        c,
        layers,
        final=layer("transformer.ln_f", c.layer_norm_epsilon),
        position={"kind": "learned"},
        tokens="transformer.wte.weight",
        width=width,
        context=c.n_positions,
        tables={"position": Source("transformer.wpe.weight")},
    )
