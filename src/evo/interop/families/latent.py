"""Latent attention in Llama's layout: DeepSeek-V2 to V3.2, Youtu, MiniCPM 3, GLM-4.7-Flash, GLM-5, A.X, Dots 3."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from evo.interop.assemble import Beside, Layer, Model, Sub
from evo.interop.attention import mscale, rope
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.experts import experts, stacks
from evo.interop.families.experts import MLP, biased, count_of, is_sparse, routed, shared_of, top_of
from evo.interop.families.llama import AT
from evo.interop.parts import Data, Part, Source, View, gated, layer, rms, split_by_head, times, under


@dataclass(frozen=True)
class Traits:
    """What a type with latent attention has of its own.

    gated: whether heads have gates. is_second: DeepSeek-V2's router, and scores that YaRN leaves alone. scaled: whether
    embedding, branches and logits are, and halves turn (MiniCPM). normed_experts: whether a norm is behind them.
    index_pairs: what turns in the index of a selection.
    """

    gated: bool = False
    is_second: bool = False
    scaled: bool = False
    normed_experts: bool = False
    index_pairs: str = "halves"


PLAIN = Traits()
TRAITS = {
    "axk1": Traits(normed_experts=True),
    "bailing_hybrid": Traits(gated=True),
    "deepseek_v2": Traits(is_second=True),
    "dots3_note_text": Traits(index_pairs="neighbours"),
    "glm_moe_dsa": Traits(index_pairs="neighbours"),
    "minicpm3": Traits(scaled=True),
}


def traits(c: Config) -> Traits:
    """Those of the type that a configuration is of."""
    return TRAITS.get(c.type, PLAIN)


def latent(c: Config, at: str = f"{AT}.self_attn") -> Part:
    """The attention of a layer."""
    heads = c.num_attention_heads
    nope, turned, value, rank = c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim, c.kv_lora_rank
    data: Data = {
        "kind": "latent",
        "heads": heads,
        "kv_rank": rank,
        "nope_dim": nope,
        "rope_dim": turned,
        "value_dim": value,
    }
    keys, values = split_by_head(heads, nope, value)
    weights = {
        "kv_down": Source(f"{at}.kv_a_proj_with_mqa.weight"),
        "kv_norm.gain": Source(f"{at}.kv_a_layernorm.weight"),
        "k": Source(f"{at}.kv_b_proj.weight", keys),
        "v": Source(f"{at}.kv_b_proj.weight", values),
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
    if traits(c).gated:
        data["gate"] = "head"
        weights["gate"] = Source(f"{at}.g_proj.weight")
    scale = _scale(c, nope + turned)
    return Part({**data, **({"scale": scale} if scale is not None else {})}, weights)


def _scale(c: Config, width: int) -> float | None:
    """YaRN's change of the scores, where it is asked for."""
    said: Data = c.get("rope_parameters") or {}
    every = said.get("mscale_all_dim")
    if said.get("rope_type", "default") == "default" or not every or traits(c).is_second:
        return None
    return width**-0.5 * mscale(float(said["factor"]), float(every)) ** 2


CHOICE = "choice"
"""The name under which layers find the tokens that an earlier one chose."""


def chosen(c: Config, index: int, whole: Part, *, eps: float = 1e-6, at_end: bool = False) -> Part:
    """The attention of a layer over the tokens of an index of its own, or of the last layer that has one.

    eps: of the norm of the index's keys. at_end: whether their last channels turn.
    """
    kinds = c.get("indexer_types") or ["full"] * c.num_hidden_layers
    if kinds[index] == "shared":
        return Part({**whole.data, "select": {"kind": "shared", "of": CHOICE}}, whole.weights)
    pairs = traits(c).index_pairs
    at, norm = f"{AT}.self_attn.indexer", layer(f"{AT}.self_attn.indexer.k_norm", eps)
    select: Data = {
        "kind": "tokens",
        "top": c.index_topk,
        "heads": c.index_n_heads,
        "dim": c.index_head_dim,
        "norm": norm.data,
        "position": {
            **rope(c, c.qk_rope_head_dim, pairs=pairs),
            "dims": c.qk_rope_head_dim,
            **({"at": "last"} if at_end else {}),
        },
    }
    if "shared" in kinds[index + 1 : index + 2]:
        select["to"] = CHOICE
    maps = {"q": "wq_b", "k": "wk", "weigh": "weights_proj"}
    weights = {ours: Source(f"{at}.{theirs}.weight") for ours, theirs in maps.items()} | under("k_norm", norm.weights)
    return Part({**whole.data, "select": select}, {**whole.weights, **under("select.index", weights)})


def router(c: Config) -> Data:
    """DeepSeek-V2's softmax, perhaps by groups; V3's sigmoid with a bias."""
    if not traits(c).is_second:
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
    gain: Any = c.scale_depth / c.num_hidden_layers**0.5 if traits(c).scaled else 1.0

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
        is_normed = traits(c).normed_experts and is_sparse(c, i)
        last = rms(f"{MLP}.post_mlp_layernorm", c.rms_norm_eps) if is_normed else None
        mixer = latent(c) if c.get("index_topk") is None else chosen(c, i, latent(c))
        layers.append([Sub(mixer, pre=one, gain=gain), Sub(ffn(i), pre=other, out=last, gain=gain)])
    is_small = traits(c).scaled
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


def axk2(c: Config) -> Model:
    """Norms that gate themselves; queries and gates of one map of a narrow vector, normed and not."""
    at, sizes = f"{AT}.self_attn.q_gate_proj.weight", (c.qk_nope_head_dim + c.qk_rope_head_dim, c.v_head_dim)
    plain = latent(c)
    weights = {**plain.weights}
    for name, view in zip(("q", "gate"), split_by_head(c.num_attention_heads, *sizes), strict=True):
        weights[name] = Source(at, view)
    whole = Part({**plain.data, "q_from": "both", "gate": "channel", "gate_from": "q"}, weights)
    dense, sparse = dense_and_sparse(c, c.moe_intermediate_size * c.n_shared_experts)
    layers = []
    for i in range(c.num_hidden_layers):
        behind = gated_norm if is_sparse(c, i) else plain_norm
        one, other = gated_norm(c, f"{AT}.input_layernorm"), behind(c, f"{AT}.post_attention_layernorm")
        layers.append([Sub(chosen(c, i, whole), pre=one), Sub(sparse if is_sparse(c, i) else dense, pre=other)])
    return decoder(
        c,
        layers,
        final=plain_norm(c, "model.norm"),
        position=rope(c, c.qk_rope_head_dim, pairs="neighbours"),
    )


def dense_and_sparse(c: Config, shared: int) -> tuple[Part, Part]:
    """The feed-forwards of first layers and of others, whose shared experts are so wide together."""
    router = biased(c, renormalise=bool(c.norm_topk_prob))
    sparse = routed(c, c.moe_intermediate_size, router=router, shared=shared_of(c, shared))
    return gated(MLP, c.intermediate_size, c.hidden_act), sparse


def plain_norm(c: Config, name: str) -> Part:
    """The norm of a name."""
    return rms(name, c.rms_norm_eps)


def gated_norm(c: Config, name: str) -> Part:
    """The norm of a name, gated by itself."""
    norm = plain_norm(c, f"{name}.norm")
    maps = {"down": Source(f"{name}.mlp.fc1.weight"), "up": Source(f"{name}.mlp.fc2.weight")}
    data: Data = {"kind": "gated", "norm": norm.data, "rank": c.gated_norm_rank}
    return Part(data, {**under("norm", norm.weights), **maps})


def dots3(c: Config) -> Model:
    """Narrow vectors scaled up, a norm of the shared key, gated heads, an index or a window, whose sizes are others."""
    dense, sparse = dense_and_sparse(c, c.shared_experts_intermediate_size * c.n_shared_experts)
    layers = []
    for i in range(c.num_hidden_layers):
        one, other = (plain_norm(c, f"{AT}.{name}") for name in ("input_layernorm", "post_attention_layernorm"))
        layers.append([Sub(_dots3_mixer(c, i), pre=one), Sub(sparse if is_sparse(c, i) else dense, pre=other)])
    return decoder(
        c, layers, final=plain_norm(c, "model.norm"), position=_dots3_position(c, c.layer_types[0], c.qk_rope_head_dim)
    )


def _dots3_position(c: Config, kind: str, dims: int) -> Data:
    said = {**c.rope_parameters[kind], "partial_rotary_factor": 1.0}
    return rope(c, dims, said, pairs="neighbours")


def _dots3_mixer(c: Config, index: int) -> Part:
    sizes: dict[Any, Data] = c.get("per_layer_config") or {}
    own = c.but(sizes.get(index, sizes.get(str(index), {})))
    kind, turned = c.layer_types[index], own.qk_rope_head_dim
    plain = latent(own)
    key, gate = rms(f"{AT}.self_attn.k_rope_only_layernorm", c.rms_norm_eps), f"{AT}.self_attn.g_proj.weight"
    data: Data = {**plain.data, "norm": rms("", c.rms_norm_eps).data, "rope_norm": key.data, "gate": "head"}
    ratios = {"q_norm.gain": own.q_lora_rank, "kv_norm.gain": own.kv_lora_rank}
    scaled = times(plain.weights, {name: (c.hidden_size / rank) ** 0.5 for name, rank in ratios.items()})
    whole = Part(data, {**scaled, **under("rope_norm", key.weights), "gate": Source(gate)})
    position = _dots3_position(c, kind, turned)
    if kind == "indexed_attention":
        return chosen(own.but({"rope_parameters": c.rope_parameters[kind]}), index, whole)
    windowed: Data = {"stencil": {"kind": "window", "size": c.sliding_window}} if kind == "sliding_attention" else {}
    is_usual = position == _dots3_position(c, c.layer_types[0], c.qk_rope_head_dim)
    return Part({**data, **windowed, **({} if is_usual else {"position": position})}, whole.weights)


def longcat(c: Config) -> Model:
    """Two attentions and feed-forwards a layer; experts that read after the first and are added after the second."""
    router: Data = {
        "renormalise": False,
        "choice_bias": True,
        "scale": float(c.routed_scaling_factor),
        "bias": bool(c.get("router_bias", False)),
    }
    count, hidden = c.n_routed_experts, c.expert_ffn_hidden_size
    every = stacks(f"{MLP}.experts", hidden)
    own = {name: replace(source, view=partial(_first, count, source.view)) for name, source in every.items()}
    sparse = experts(
        MLP,
        count=count,
        top=c.moe_topk,
        hidden=hidden,
        act=c.hidden_act,
        router=router,
        gate="router.classifier.weight",
        choice_bias="router.e_score_correction_bias",
        weights=own,
        identity=c.get("zero_expert_num", 0),
    )
    mixers = [_longcat_mixer(c, f"{AT}.self_attn.{k}") for k in (0, 1)]
    before = [plain_norm(c, f"{AT}.input_layernorm.{k}") for k in (0, 1)]
    behind = [plain_norm(c, f"{AT}.post_attention_layernorm.{k}") for k in (0, 1)]
    dense = [gated(f"{AT}.mlps.{k}", c.ffn_hidden_size, c.hidden_act) for k in (0, 1)]
    whole: Layer = [
        Sub(mixers[0], pre=before[0]),
        Beside((Sub(dense[0]), Sub(sparse, late=2)), pre=behind[0]),
        Sub(mixers[1], pre=before[1]),
        Sub(dense[1], pre=behind[1]),
    ]
    position = rope(c, c.qk_rope_head_dim, pairs="neighbours")
    return decoder(c, [whole] * c.num_layers, final=plain_norm(c, "model.norm"), position=position)


def _first(count: int, view: View, tensor: Any) -> Any:
    return view(tensor[:count])


def _longcat_mixer(c: Config, at: str) -> Part:
    """Queries, and what keys and values are made of, are scaled up by how narrow they are."""
    plain = latent(c, at)
    ratios = {"q": c.q_lora_rank, "kv_norm.gain": c.kv_lora_rank}
    return Part(plain.data, times(plain.weights, {name: (c.hidden_size / r) ** 0.5 for name, r in ratios.items()}))
