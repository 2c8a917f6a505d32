"""LFM2, its experts, and LFM3: gated short convolutions, attention now and then."""

from evo.interop.assemble import Layer, Model, Sub
from evo.interop.attention import attention, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.families.experts import is_sparse, routed
from evo.interop.families.llama import AT, position_of, window_of
from evo.interop.parts import Data, Part, Source, gated, rms, rows

FEED = f"{AT}.feed_forward"


def short_convolution(c: Config) -> Part:
    """c * (taps of b * x), projected."""
    if c.get("conv_bias", False):
        raise refuse(c, "biases of its convolutions")
    at, width = f"{AT}.conv", c.hidden_size
    weights = {name: Source(f"{at}.in_proj.weight", rows(k * width, width)) for k, name in enumerate("bcx")}
    weights |= {"taps": Source(f"{at}.conv.weight"), "o": Source(f"{at}.out_proj.weight")}
    return Part({"kind": "convolution", "size": c.conv_L_cache}, weights)


def attends(c: Config, index: int, names: tuple[str, str, str]) -> Part:
    """Attention with norms of q and k, perhaps a gate of each head. names: of both norms and of the output."""
    at, head_dim = f"{AT}.self_attn", head_dim_of(c)
    options: Data = {"window": window_of(c, index), "position": position_of(c, index, head_dim)}
    weights = projections(at, ("q_proj", "k_proj", "v_proj", names[2]))
    if c.get("use_attention_gate", False):
        options["gate"] = "head"
        weights["gate"] = Source(f"{at}.g_proj.weight")
    return attention(
        c.num_attention_heads,
        kv_heads=c.num_key_value_heads,
        head_dim=head_dim,
        width=c.hidden_size,
        norms=tuple(rms(f"{at}.{name}", c.norm_eps) for name in names[:2]),
        weights=weights,
        **options,
    )


def head_dim_of(c: Config) -> int:
    """The width of a head."""
    return c.get("head_dim") or c.hidden_size // c.num_attention_heads


def hidden_of(c: Config) -> int:
    """Hidden units, which the second version adjusts to multiples."""
    hidden = c.get("block_ff_dim") or c.intermediate_size
    if not c.get("block_auto_adjust_ff_dim", False):
        return hidden
    hidden = int(2 * hidden / 3)
    if c.get("block_ffn_dim_multiplier") is not None:
        hidden = int(c.block_ffn_dim_multiplier * hidden)
        hidden = c.block_multiple_of * -(-hidden // c.block_multiple_of)
    return hidden


def lfm(c: Config) -> Model:
    """Convolutions and attention in turn, each behind a norm, or between two (LFM3)."""
    sandwich = c.get("use_sandwich_norm", False)
    names = ("q_norm", "k_norm", "o_proj") if c.get("sliding_window") else ("q_layernorm", "k_layernorm", "out_proj")

    def normed(name: str) -> Part:
        return rms(f"{AT}.{name}", c.norm_eps)

    plain = gated(FEED, hidden_of(c), "silu", names=("w1", "w3", "w2"))
    layers: list[Layer] = []
    for i, kind in enumerate(c.layer_types):
        mixer = short_convolution(c) if kind == "conv" else attends(c, i, names)
        has_experts = c.get("num_experts") is not None and is_sparse(c, i)
        behind = [normed(name) if sandwich else None for name in ("post_operator_norm", "post_ffn_norm")]
        ffn = experts(c) if has_experts else plain
        layers.append(
            [Sub(mixer, pre=normed("operator_norm"), out=behind[0]), Sub(ffn, pre=normed("ffn_norm"), out=behind[1])]
        )
    said = c.rope_parameters
    position = rope(c, head_dim_of(c), said.get("full_attention", said))
    return decoder(c, layers, final=rms("model.embedding_norm", c.norm_eps), position=position)


def experts(c: Config) -> Part:
    """Sigmoid scores, perhaps with a bias of the choice."""
    router: Data = {"score": "sigmoid", "renormalise": bool(c.norm_topk_prob)}
    router |= {"choice_bias": True} if c.use_expert_bias else {}
    router |= {"eps": 1e-6} if c.norm_topk_prob else {}
    router |= {"scale": float(c.routed_scaling_factor)} if c.routed_scaling_factor != 1.0 else {}
    return routed(c, c.moe_intermediate_size, router=router, choice_bias="expert_bias", at=FEED, act="silu")
