"""Experts in layouts of their own: Kolibri, Command A's, DBRX, MiMo-V2, MiniMax-M3, Beam."""

from functools import partial
from typing import Any

from evo.interop.assemble import Model, Sub
from evo.interop.attention import NO_POSITION, fused, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.experts import experts, stacks
from evo.interop.families.experts import MLP, biased, is_sparse, routed, shared_of
from evo.interop.families.llama import AT, Llama, capped, scaled, window_of
from evo.interop.parts import Data, Part, Source, gated, gated_fused, layer, rms, times, under


def kolibri(c: Config) -> Model:
    """GLM-4's norms, rotation in windows only, a choice by biased logits that are scored afterwards."""
    part = routed(
        c,
        c.moe_intermediate_size,
        router={"score": "sigmoid", "choice_bias": True, "choice_of": "logit", "renormalise": bool(c.norm_topk_prob)},
        shared=shared_of(c, c.shared_expert_intermediate_size),
    )
    return Llama(
        c,
        qk=lambda name: rms(f"{name}_norm", c.rms_norm_eps),
        slots=("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"),
        ffn=lambda i: part,
        options=lambda i: {"position": NO_POSITION} if window_of(c, i) is None else {},
    ).model()


def cohere_moe(c: Config) -> Model:
    """Cohere 2 with experts, whose shared one may be averaged with the sum of the others."""
    hidden, count = c.intermediate_size, c.get("num_shared_experts", 0)
    shared, weights = shared_of(c, hidden * count), stacks(f"{MLP}.experts", hidden)
    if shared is not None and c.shared_expert_combination_strategy == "average":
        shared = Part(shared.data, times(shared.weights, {"down": 0.5}))
        weights = times(weights, {"routed.down": 0.5})
    score = c.expert_selection_fn
    router: Data = {"score": score, "renormalise": score == "softmax" or bool(c.norm_topk_prob)}
    sparse = routed(c, hidden, router=router, shared=shared, weights=weights)
    first = c.get("prefix_dense_intermediate_size") or hidden
    dense = gated(MLP, first, c.hidden_act)

    def options(i: int) -> Data:
        turns = window_of(c, i) is not None or (not is_sparse(c, i) and c.prefix_dense_sliding_window_pattern == 1)
        return {} if turns else {"position": NO_POSITION}

    eps = c.get("rms_norm_eps")
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        norm=lambda name: layer(name, c.layer_norm_eps, bias=False) if eps is None else rms(name, eps),
        slots=("input_layernorm", None, None, None),
        parallel=True,
        pairs="neighbours",
        ffn=lambda i: sparse if is_sparse(c, i) else dense,
        options=options,
        readout=scaled(float(c.logit_scale)),
    ).model()


def dbrx(c: Config) -> Model:
    """q, k and v in one matrix and within bounds; experts' matrices one below the other."""
    own, feed = Config(c.attn_config), Config(c.ffn_config)
    c = c.called(num_hidden_layers="n_layers", num_attention_heads="n_heads", hidden_size="d_model")
    head_dim, hidden, count = c.hidden_size // c.n_heads, feed.ffn_hidden_size, feed.moe_num_experts
    norm = feed.get("moe_normalize_expert_weights")
    if norm not in (None, 1, 1.0):
        raise refuse(c, f"shares divided by a norm of order {norm}")
    at = "transformer.blocks.{i}"

    def stack(tensor: Any) -> Any:
        return tensor.unflatten(0, (count, hidden))

    part = experts(
        f"{at}.ffn",
        count=count,
        top=feed.moe_top_k,
        hidden=hidden,
        act=(feed.get("ffn_act_fn") or {}).get("name", "silu"),
        router={"renormalise": norm is not None},
        gate="router.layer.weight",
        weights={
            "routed.gate": Source(f"{at}.ffn.experts.mlp.w1", stack),
            "routed.up": Source(f"{at}.ffn.experts.mlp.v1", stack),
            "routed.down": Source(f"{at}.ffn.experts.mlp.w2", lambda tensor: stack(tensor).transpose(1, 2)),
        },
    )
    attend = f"{at}.norm_attn_norm.attn"
    keys = own.kv_n_heads * head_dim
    weights = fused(f"{attend}.Wqkv", {"q": c.hidden_size, "k": keys, "v": keys})
    return Llama(
        c.but({"num_key_value_heads": own.kv_n_heads, "max_position_embeddings": c.max_seq_len}),
        norm=lambda name: layer(name, 1e-5, bias=False),
        slots=("norm_attn_norm.norm_1", None, "norm_attn_norm.norm_2", None),
        ffn=lambda i: part,
        weights={**weights, "o": Source(f"{attend}.out_proj.weight")},
        options=lambda i: {"clip": own.get("clip_qkv")},
        final="transformer.norm_f",
        tokens="transformer.wte.weight",
        at=at,
    ).model()


def mimo(c: Config) -> Model:
    """Twice the key heads and a sink in windows, values narrower than keys, which are weighed."""
    eps, at = c.rms_norm_eps, f"{AT}.self_attn"
    letters = "qkv" if c.get("attention_bias", False) else ""
    maps = projections(at, biased=letters)
    maps = times(maps, dict.fromkeys(maps.keys() & {"v", "v_bias"}, float(c.get("attention_value_scale", 1.0))))
    plain = gated(MLP, c.intermediate_size, c.hidden_act)
    sparse = routed(c, c.moe_intermediate_size, router=biased(c, renormalise=bool(c.get("norm_topk_prob", True))))

    def options(i: int) -> Data:
        local = window_of(c, i) is not None
        found: Data = {"value_dim": c.v_head_dim, "sink_logit": local}
        return {**found, "kv_heads": c.num_key_value_heads * 2} if local else found

    def weights(i: int) -> dict[str, Source]:
        return {**maps, "sink_logit": Source(f"{at}.sinks")} if window_of(c, i) is not None else maps

    return Llama(
        c,
        biased=letters,
        norm=lambda name: rms(name, eps),
        ffn=lambda i: sparse if is_sparse(c, i) else plain,
        weights_of=weights,
        options=options,
        position=rope(c, c.head_dim, c.rope_parameters[c.layer_types[0]]),
    ).model()


def minimax_m3(c: Config) -> Model:
    """Clipped gates, sigmoid scores with a bias of the choice; some layers meet the best blocks of an index."""
    act: Data = {"kind": "clipped", "limit": float(c.swiglu_limit), "slope": float(c.swiglu_alpha), "shift": 1.0}
    plain = gated_fused(MLP, c.dense_intermediate_size, act)
    sparse = routed(
        c,
        c.intermediate_size,
        act=act,
        router=biased(c),
        shared=gated_fused(f"{MLP}.shared_experts", c.shared_intermediate_size, act),
    )
    norm = partial(rms, eps=c.rms_norm_eps, one_plus=True)
    at, index = f"{AT}.self_attn", f"{AT}.self_attn.indexer"
    norms = {name: norm(f"{index}.{name}") for name in ("q_norm", "k_norm")}
    chooses = [kind == "minimax_m3_sparse" for kind in c.layer_types]
    position = rope(c, c.head_dim)
    turned = position.get("dims", c.head_dim)
    if any(chooses) and c.index_n_heads != c.num_key_value_heads:
        raise refuse(c, "an index with another number of heads than keys have")
    if any(chooses) and turned > c.index_head_dim:
        raise refuse(c, "an index narrower than what turns")
    select: Data = {
        "kind": "blocks",
        "size": c.index_block_size,
        "top": c.index_topk_blocks,
        "local": c.index_local_blocks,
        "dim": c.index_head_dim,
        "norm": norms["k_norm"].data,
        "q_norm": norms["q_norm"].data,
        **({"position": {**position, "dims": turned}} if turned != c.index_head_dim else {}),
    }
    chosen = {name: Source(f"{index}.{name}_proj.weight") for name in ("q", "k")}
    for name, part in norms.items():
        chosen |= under(name, part.weights)

    return Llama(
        c,
        norm=norm,
        qk=lambda name: norm(f"{name}_norm"),
        ffn=lambda i: sparse if is_sparse(c, i) else plain,
        weights_of=lambda i: projections(at) | (under("select.index", chosen) if chooses[i] else {}),
        options=lambda i: {"select": select} if chooses[i] else {},
    ).model()


def beam(c: Config) -> Model:
    """Gated heads, scores that grow where nothing turns, and sums that keep their variance: the n-th one weighs 1/n."""
    norm = partial(rms, eps=c.rms_norm_eps)
    plain = gated(MLP, c.intermediate_size, c.hidden_act)
    sparse = routed(c, c.moe_intermediate_size, router=biased(c, renormalise=bool(c.norm_topk_prob)))
    at = f"{AT}.self_attn"
    gate = {"gate": Source(f"{at}.gate_proj.weight"), "gate_heads_bias": Source(f"{at}.gate_bias")}
    heat: Data = {"slope": 0.1, "period": 2048, "form": "power", "first": 1}

    def options(i: int) -> Data:
        still = c.rope_parameters[c.layer_types[i]] is None
        return {"gate": "channel", "bias": ["gate_heads"], "temperature": heat if still else None}

    whole = Llama(
        c,
        qk=lambda name: norm(f"{name}_norm"),
        weights=projections(at) | gate,
        options=options,
    )
    layers = []
    for i in range(c.num_hidden_layers):
        names = ("input", "post_attention", "pre_feedforward", "post_feedforward")
        one, two, three, four = (norm(f"{AT}.{name}_layernorm") for name in names)
        ffn = sparse if is_sparse(c, i) else plain
        layers.append([_nth(2 * i + 2, whole.mixer(i), one, two), _nth(2 * i + 3, ffn, three, four)])
    position = c.rope_parameters["sliding_attention"]
    return decoder(c, layers, final=norm("model.norm"), position=rope(c, c.head_dim, position), readout=capped(c))


def _nth(n: int, block: Part, pre: Part, out: Part) -> Sub:
    """The n-th sum of a stream, whose every part weighs the same."""
    return Sub(block, pre=pre, out=out, gain=n**-0.5, skip=((n - 1) / n) ** 0.5)


def phimoe(c: Config) -> Model:
    """Layer norms and biases; two experts, each by its share among those near it."""
    if c.num_experts_per_tok != 2:
        raise refuse(c, "a choice of other than two experts")
    said: Data = c.get("rope_parameters") or {}
    if said.get("rope_type", "default") != "default":
        is_long = c.max_position_embeddings > said["original_max_position_embeddings"]
        said = {**said, "attention_factor": said["long_mscale" if is_long else "short_mscale"]}
    part = routed(
        c,
        c.intermediate_size,
        router={"renormalise": False, "rivals": 2.0 * float(c.router_jitter_noise)},
        gate="router.weight",
    )
    ends = Part({"bias": True}, {"bias": Source("lm_head.bias")}) if c.get("lm_head_bias", False) else None
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        norm=partial(layer, eps=c.rms_norm_eps),
        ffn=lambda i: part,
        position=rope(c, c.hidden_size // c.num_attention_heads, said),
        readout=ends,
    ).model()
