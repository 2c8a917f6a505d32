"""Latent attention in Llama's layout: DeepSeek-V2, V3 and V3.2, Youtu, MiniCPM 3, GLM-4.7-Flash and GLM-5."""

from typing import Any

from evo.interop.assemble import Model, Sub
from evo.interop.attention import mscale, rope
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.experts import experts
from evo.interop.families.experts import MLP, biased, count_of, is_sparse, shared_of, top_of
from evo.interop.families.llama import AT
from evo.interop.parts import Data, Part, Source, gated, layer, rms, under


def latent(c: Config) -> Part:
    """The attention of a layer."""
    at, heads = f"{AT}.self_attn", c.num_attention_heads
    nope, turned, value, rank = c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim, c.kv_lora_rank
    data: Data = {
        "kind": "latent",
        "heads": heads,
        "kv_rank": rank,
        "nope_dim": nope,
        "rope_dim": turned,
        "value_dim": value,
    }
    weights = {
        "kv_down": Source(f"{at}.kv_a_proj_with_mqa.weight"),
        "kv_norm.gain": Source(f"{at}.kv_a_layernorm.weight"),
        "k": Source(f"{at}.kv_b_proj.weight", lambda tensor: tensor.unflatten(0, (heads, -1))[:, :nope]),
        "v": Source(f"{at}.kv_b_proj.weight", lambda tensor: tensor.unflatten(0, (heads, -1))[:, nope:]),
        "o": Source(f"{at}.o_proj.weight"),
    }
    if c.get("q_lora_rank") is not None:
        data["q_rank"] = c.q_lora_rank
        weights |= {
            "q_down": Source(f"{at}.q_a_proj.weight"),
            "q_norm.gain": Source(f"{at}.q_a_layernorm.weight"),
            "q": Source(f"{at}.q_b_proj.weight"),
        }
    else:
        weights["q"] = Source(f"{at}.q_proj.weight")
    if c.get("attention_bias", False):
        data["bias"] = True
        weights |= {"kv_down_bias": Source(f"{at}.kv_a_proj_with_mqa.bias"), "o_bias": Source(f"{at}.o_proj.bias")}
        if c.get("q_lora_rank") is not None:
            weights["q_down_bias"] = Source(f"{at}.q_a_proj.bias")
    if c.type == "bailing_hybrid":
        data["gate"] = "head"
        weights["gate"] = Source(f"{at}.g_proj.weight")
    scale = _scale(c, nope + turned)
    return Part({**data, **({"scale": scale} if scale is not None else {})}, weights)


def _scale(c: Config, width: int) -> float | None:
    """YaRN's change of the scores, where it is asked for."""
    said: Data = c.get("rope_parameters") or {}
    every = said.get("mscale_all_dim")
    if said.get("rope_type", "default") == "default" or not every or c.type == "deepseek_v2":
        return None
    return width**-0.5 * mscale(float(said["factor"]), float(every)) ** 2


CHOICE = "choice"
"""The name under which layers find the tokens that an earlier one chose."""


def chosen(c: Config, index: int) -> Part:
    """The attention of a layer over the tokens of an index of its own, or of the last layer that has one."""
    kinds = c.get("indexer_types") or ["full"] * c.num_hidden_layers
    whole = latent(c)
    if kinds[index] == "shared":
        return Part({**whole.data, "select": {"kind": "shared", "of": CHOICE}}, whole.weights)
    pairs = "neighbours" if c.type == "glm_moe_dsa" else "halves"
    at, norm = f"{AT}.self_attn.indexer", layer(f"{AT}.self_attn.indexer.k_norm", 1e-6)
    select: Data = {
        "kind": "tokens",
        "top": c.index_topk,
        "heads": c.index_n_heads,
        "dim": c.index_head_dim,
        "norm": norm.data,
        "position": {**rope(c, c.qk_rope_head_dim, pairs=pairs), "dims": c.qk_rope_head_dim},
    }
    if "shared" in kinds[index + 1 : index + 2]:
        select["to"] = CHOICE
    maps = {"q": "wq_b", "k": "wk", "weigh": "weights_proj"}
    weights = {ours: Source(f"{at}.{theirs}.weight") for ours, theirs in maps.items()} | under("k_norm", norm.weights)
    return Part({**whole.data, "select": select}, {**whole.weights, **under("select.index", weights)})


def router(c: Config) -> Data:
    """DeepSeek-V2's softmax, perhaps by groups; V3's sigmoid with a bias."""
    if c.type != "deepseek_v2":
        return biased(c, renormalise=bool(c.get("norm_topk_prob", True)))
    data: Data = {"renormalise": False}
    if c.get("topk_method") == "group_limited_greedy":
        data |= {"groups": c.n_group, "top_groups": c.topk_group, "group_score": "max"}
    scale = float(c.get("routed_scaling_factor", 1.0))
    return {**data, **({"scale": scale} if scale != 1.0 else {})}


def deepseek(c: Config) -> Model:
    """Dense layers first, then experts, if there are any."""
    sparse = c.get("n_routed_experts") is not None or c.get("mlp_layer_types") is not None
    bias = bool(c.get("mlp_bias", False))
    gain: Any = c.scale_depth / c.num_hidden_layers**0.5 if c.type == "minicpm3" else 1.0

    def ffn(i: int) -> Part:
        if not sparse or not is_sparse(c, i):
            return gated(MLP, c.intermediate_size, c.hidden_act, bias=bias)
        hidden = c.moe_intermediate_size
        return experts(
            MLP,
            count=count_of(c),
            top=top_of(c),
            hidden=hidden,
            act=c.hidden_act,
            router=router(c),
            shared=shared_of(c, hidden * (c.get("n_shared_experts") or 0)),
        )

    layers = []
    for i in range(c.num_hidden_layers):
        one, other = (rms(f"{AT}.{name}", c.rms_norm_eps) for name in ("input_layernorm", "post_attention_layernorm"))
        last = rms(f"{MLP}.post_mlp_layernorm", c.rms_norm_eps) if c.type == "axk1" and is_sparse(c, i) else None
        mixer = latent(c) if c.get("index_topk") is None else chosen(c, i)
        layers.append([Sub(mixer, pre=one, gain=gain), Sub(ffn(i), pre=other, out=last, gain=gain)])
    is_small = c.type == "minicpm3"
    pairs = "halves" if is_small or not c.get("rope_interleave", True) else "neighbours"
    readout = Part({"scale": c.dim_model_base / c.hidden_size} if is_small else {})
    return decoder(
        c,
        layers,
        final=rms("model.norm", c.rms_norm_eps),
        position=rope(c, c.qk_rope_head_dim, pairs=pairs),
        embedding=Part({"scale": float(c.scale_emb)} if is_small else {}),
        readout=readout,
    )
