"""Layers between several residual streams: HY-V4, DeepSeek-V4, Qwen4-Exp."""

from evo.blocks.engram.hashes import sizes as rows_of
from evo.interop.assemble import Model, Sub
from evo.interop.attention import attention, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.families.experts import MLP, biased, is_sparse, routed, shared_of
from evo.interop.families.latent import chosen, latent
from evo.interop.families.llama import AT
from evo.interop.families.scans import delta, gated_by_channel, qwen_experts
from evo.interop.parts import Data, Part, Source, Weights, gated, rms, rows, under


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


def deepseek_v4(c: Config) -> Model:
    """Keys that are values, entries beside a window, grouped outputs, a mix of streams, experts by a table."""
    eps, layers = c.rms_norm_eps, list[list[Sub]]()
    for i in range(c.num_hidden_layers):
        one, other = (rms(f"{AT}.{name}", eps) for name in ("input_layernorm", "post_attention_layernorm"))
        around = [_mixed(c, f"{AT}.{name}") for name in ("attn_hc", "ffn_hc")]
        mixer = _beside_entries(c, c.layer_types[i])
        ffn = _by_table_or_score(c, by_table=c.mlp_layer_types[i] == "hash_moe")
        layers.append([Sub(mixer, pre=one, streams=around[0]), Sub(ffn, pre=other, streams=around[1])])
    streams: Data = {"kind": "sinkhorn", "count": c.hc_mult, "iterations": c.hc_sinkhorn_iters, "eps": c.hc_eps}
    end = {name: Source(f"model.hc_head.hc_{theirs}") for name, theirs in END.items()}
    return decoder(
        c,
        layers,
        final=rms("model.norm", eps),
        position=_turns(c, "main"),
        streams=Part({**streams, "norm_eps": eps}, end),
    )


def _mixed(c: Config, at: str) -> Weights:
    """The weights of a connection that mixes streams, whose biases lie behind those of `_gates`."""
    square = rows(2 * c.hc_mult, c.hc_mult**2)
    return {**_gates(c, at), "mix_bias": Source(f"{at}.base", square)}


def _turns(c: Config, which: str) -> Data:
    """The rotation of the last channels, in neighbouring pairs."""
    said = c.rope_parameters[which]
    turned = int(c.head_dim * said.get("partial_rotary_factor", 1.0))
    return {**rope(c, c.head_dim, said, pairs="neighbours"), "dims": turned, "at": "last"}


ENTRIES = {
    "maps": "kv_proj.weight",
    "gate": "gate_proj.weight",
    "places": "position_bias",
    "norm.gain": "kv_norm.weight",
}
"""The weights of entries, and what they are called there."""


def _entries(ours: str, at: str) -> Weights:
    return {f"{ours}.{name}": Source(f"{at}.{theirs}") for name, theirs in ENTRIES.items()}


def _beside_entries(c: Config, kind: str) -> Part:
    """The attention of a layer: over a window, and over entries of its kind."""
    at, norm = f"{AT}.self_attn", rms("", c.rms_norm_eps).data
    maps = {"q_down": "q_a_proj", "q": "q_b_proj", "k": "kv_proj", "o_down": "o_a_proj", "o": "o_b_proj"}
    weights = {ours: Source(f"{at}.{theirs}.weight") for ours, theirs in maps.items()}
    weights |= {"narrow_norm.gain": Source(f"{at}.q_a_norm.weight"), "k_norm.gain": Source(f"{at}.kv_norm.weight")}
    select: Data | None = None
    if kind != "sliding_attention":
        select = {"kind": "pooled", "size": c.compress_rates[kind], "norm": norm}
        weights |= _entries("select.entries", f"{at}.compressor")
        if kind == "compressed_sparse_attention":
            index: Data = {"top": c.index_topk, "heads": c.index_n_heads, "dim": c.index_head_dim, "norm": norm}
            select |= {"overlap": True, "index": index}
            inner = f"{at}.compressor.indexer"
            weights |= _entries("select.index.entries", inner)
            weights |= {"select.index.q": Source(f"{inner}.q_b_proj.weight")}
            weights |= {"select.index.weigh": Source(f"{inner}.scorer.weights_proj.weight")}
    return attention(
        c.num_attention_heads,
        kv_heads=1,
        head_dim=c.head_dim,
        width=c.hidden_size,
        window=c.sliding_window,
        weights={**weights, "sink_logit": Source(f"{at}.sinks")},
        qk_norm={**norm, "gain": False},
        k_norm=norm,
        values="turned_keys",
        sink_logit=True,
        low_rank={"q": c.q_lora_rank, "norm": norm, "o": c.o_lora_rank, "groups": c.o_groups},
        select=select,
        position=None if select is None else _turns(c, "compress"),
    )


SCORES = {"sqrtsoftplus": "sqrt_softplus"}
"""What scores are called there, and here where it is another word."""


def _by_table_or_score(c: Config, *, by_table: bool) -> Part:
    """Clipped experts, chosen by a table of the token or by scores with a bias."""
    act: Data = {"kind": "clipped", "limit": float(c.swiglu_limit), "slope": 1.0, "shift": 0.0}
    chooses: Data = {"choose": "table"} if by_table else {"choice_bias": True}
    score, factor = SCORES.get(c.scoring_func, c.scoring_func), float(c.routed_scaling_factor)
    part = routed(
        c,
        c.moe_intermediate_size,
        act=act,
        router={**chooses, "score": score, "eps": 1e-20, **({} if factor == 1.0 else {"scale": factor})},
        shared=shared_of(c, c.moe_intermediate_size, act=act),
    )
    return Part(part.data, {**part.weights, **({"assigned.ids": Source(f"{MLP}.gate.tid2eid")} if by_table else {})})


def qwen4(c: Config) -> Model:
    """Gated DeltaNet, and gated attention over whole blocks that an index chooses, between streams read by channel."""
    if c.attention_bias:
        raise refuse(c, "biases of attention")
    act = c.output_gate_type or c.hidden_act
    recurrent = delta(c, is_fused=False)
    if act != "silu":
        recurrent = Part({**recurrent.data, "gate": act}, recurrent.weights)
    mixers = {"linear_attention": recurrent, "indexed_attention": _over_blocks(c)}
    ffn, layers = qwen_experts(c), list[list[Sub]]()
    for i, kind in enumerate(c.layer_types):
        around = [_by_channel(c, f"{AT}.{name}_hyper_connection") for name in ("attn", "mlp")]
        first = [Sub(_of_ngrams(c, c.ple_layer_ids.index(i + 1)))] if i + 1 in c.ple_layer_ids else []
        layers.append([*first, Sub(mixers[kind], streams=around[0]), Sub(ffn, streams=around[1])])
    norm = rms("", c.rms_norm_eps).data
    streams: Data = {"kind": "channels", "count": c.hc_count, "rank": c.hc_lowrank, "norm": {**norm, "gain": "heads"}}
    end = _by_channel(c, "model.hyper_connection_mixer")
    end.pop("write")
    return decoder(c, layers, final=None, position=rope(c, c.head_dim), streams=Part(streams, end))


def _by_channel(c: Config, at: str) -> Weights:
    """The weights of a connection whose maps are divided by the number of streams."""
    return {
        "down": Source(f"{at}.input_mix_weight_down.weight", scale=1.0 / c.hc_count),
        "up": Source(f"{at}.input_mix_weight_up.weight"),
        "write": Source(f"{at}.block_inject_weight.weight", scale=1.0 / c.hc_count),
        "norm.gain": Source(f"{at}.hc_norm.weight", add=1.0),
    }


def _of_ngrams(c: Config, place: int) -> Part:
    """What all streams let in of hashed n-grams."""
    at, end = f"{AT}.ple", c.eos_token_id
    data: Data = {
        "kind": "engram",
        "sizes": list(range(2, c.ngram_size + 1)),
        "heads": c.heads_per_ngram,
        "rows": c.ngram_vocab_size_base,
        "dim": c.ple_embed_dim // ((c.ngram_size - 1) * c.heads_per_ngram),
        "conv": c.ple_conv_kernel_size,
        "norm": {**rms("", c.rms_norm_eps).data, "gain": "heads"},
        "end": end[0] if isinstance(end, list) else end,
        "place": place,
        "seed": c.seed,
    }
    functions = (c.ngram_size - 1) * c.heads_per_ngram
    weights = {
        "table": Source(
            f"{at}.ple_embedding.ngram_embedding.weight",
            rows(0, sum(rows_of(c.ngram_vocab_size_base, functions, place))),
        ),
        "key": Source(f"{at}.key_proj.weight"),
        "v": Source(f"{at}.value_proj.weight"),
        "taps": Source(f"{at}.conv1d.weight", lambda tensor: tensor.squeeze(1)),
    }
    for ours, theirs in (("key", "key"), ("x", "query"), ("conv", "conv")):
        weights[f"{ours}_norm.gain"] = Source(f"{at}.norm_{theirs}.weight", add=1.0)
    return Part(data, weights)


def _over_blocks(c: Config) -> Part:
    """Gated attention over the whole blocks of the best mean keys."""
    if c.indexer_n_heads is None:
        return gated_by_channel(c)
    at, heads, dim = f"{AT}.self_attn.indexer", c.indexer_n_heads, c.indexer_head_dim
    position = rope(c, c.head_dim)
    turned = position.get("dims", c.head_dim)
    norms = [rms(f"{at}.{name}_layernorm", c.rms_norm_eps, one_plus=True) for name in "qk"]
    select: Data = {
        "kind": "whole_blocks",
        "size": c.indexer_compress_ratio,
        "top": c.indexer_budget // c.indexer_compress_ratio,
        "heads": heads,
        "dim": dim,
        "norm": norms[1].data,
        "q_norm": norms[0].data,
        **({"position": {**position, "dims": turned}} if turned != dim else {}),
    }
    part = gated_by_channel(c, select=select)
    index = {
        "q": Source(f"{at}.index_qk_proj.weight", rows(0, heads * dim)),
        "entries.maps": Source(f"{at}.index_qk_proj.weight", rows(heads * dim, dim)),
        **under("q_norm", norms[0].weights),
        **under("entries.norm", norms[1].weights),
    }
    return Part(part.data, {**part.weights, **under("select.index", index)})
