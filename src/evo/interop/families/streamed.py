"""Layers between several residual streams: HY-V4."""

from evo.interop.assemble import Model, Sub
from evo.interop.attention import rope
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.families.experts import MLP, biased, is_sparse, routed, shared_of
from evo.interop.families.latent import chosen, latent
from evo.interop.families.llama import AT
from evo.interop.parts import Data, Part, Source, Weights, gated, rms, rows


def hy_v4(c: Config) -> Model:
    """Gated latent attention with sinks over the choice of an index, clipped experts, gates of what streams give."""
    at, eps = f"{AT}.self_attn", c.rms_norm_eps
    plain = latent(c)
    own = {"gate": Source(f"{at}.gate_proj.weight"), "sink_logit": Source(f"{at}.sinks")}
    whole = Part({**plain.data, "gate": "channel", "sink_logit": True}, {**plain.weights, **own})
    act: Data = {"kind": "clipped", "limit": float(c.swiglu_limit), "slope": 1.0, "shift": 0.0}
    dense = gated(MLP, c.intermediate_size, c.hidden_act)
    sparse = routed(
        c,
        c.moe_intermediate_size,
        act=act if c.swiglu_limit > 0 else None,
        router=biased(c, renormalise=bool(c.norm_topk_prob)),
        shared=shared_of(c, c.moe_intermediate_size * c.n_shared_experts),
    )
    layers = []
    for i in range(c.num_hidden_layers):
        one, other = (rms(f"{AT}.{name}", eps) for name in ("input_layernorm", "post_attention_layernorm"))
        mixer, ffn = chosen(c, i, whole, eps=eps, at_end=True), sparse if is_sparse(c, i) else dense
        layers.append(
            [
                Sub(mixer, pre=one, streams=_gates(c, f"{AT}.attn_hc")),
                Sub(ffn, pre=other, streams=_gates(c, f"{AT}.ffn_hc")),
            ]
        )
    streams: Data = {"kind": "gates", "count": c.hc_mult, "magnitude": float(c.hc_magnitude), "eps": c.hc_eps}
    end = {name: Source(f"model.hc_head.hc_{theirs}") for name, theirs in END.items()}
    return decoder(
        c,
        layers,
        final=rms("model.norm", eps),
        position=rope(c, c.qk_rope_head_dim),
        streams=Part({**streams, "norm_eps": eps}, end),
    )


END = {"maps": "fn", "bias": "base", "scale": "scale"}
"""The weights of the end of streams, and what they are called there."""


def _gates(c: Config, at: str) -> Weights:
    """The weights of a connection: biases of what is read and written lie in one vector."""
    return {
        "maps": Source(f"{at}.fn"),
        "read_bias": Source(f"{at}.base", rows(0, c.hc_mult)),
        "write_bias": Source(f"{at}.base", rows(c.hc_mult, c.hc_mult)),
        "scales": Source(f"{at}.scale"),
    }
