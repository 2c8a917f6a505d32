"""GPT-2 and its line: layer norms and dense feed-forwards, positions of several kinds, branches in turn or beside."""

from typing import Any

from evo.interop.assemble import Beside, Layer, Model, Sub
from evo.interop.attention import attention, fused, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.parts import Part, Source, View, Weights, dense, layer, linear, transposed


def by_head(heads: int, parts: int, index: int) -> View:
    """One of several parts that lie side by side within each head of a fused matrix."""
    return lambda tensor: tensor.unflatten(0, (heads, parts, -1))[:, index]


def fused_by_head(theirs: str, heads: int, *, bias: bool) -> Weights:
    """q, k, v side by side within each head."""
    weights: Weights = {}
    for index, ours in enumerate("qkv"):
        weights[ours] = Source(f"{theirs}.weight", by_head(heads, 3, index))
        if bias:
            weights[f"{ours}_bias"] = Source(f"{theirs}.bias", by_head(heads, 3, index))
    return weights


def two(mixer: Part, ffn: Part, one: Part, other: Part | None, *, parallel: bool = False, post: bool = False) -> Layer:
    """A layer of both; other None: they read through one norm."""
    if parallel and other is None:
        return [Beside((Sub(mixer), Sub(ffn)), pre=one)]
    if parallel:
        return [Beside((Sub(mixer, pre=one), Sub(ffn, pre=other)))]
    if post:
        return [Sub(mixer, after=one), Sub(ffn, after=other)]
    return [Sub(mixer, pre=one), Sub(ffn, pre=other)]


def conv1d(part: Part) -> Part:
    """The same with matrices stored (in, out)."""
    weights = {
        name: Source(source.name, transposed) if name in ("up", "down") else source
        for name, source in part.weights.items()
    }
    return Part(part.data, weights)


def gpt1(c: Config) -> Model:
    """Norms stand behind."""
    return gpt2(c, is_first=True)


def gpt2(c: Config, *, is_first: bool = False) -> Model:
    """Matrices are stored (in, out); q, k and v in one."""
    width, heads = c.n_embd, c.n_head
    if c.get("scale_attn_by_inverse_layer_idx", False) or c.get("add_cross_attention", False):
        raise refuse(c, "scores divided by the layer's number, or cross attention")
    act = c.get("afn") or c.activation_function if not is_first else "gelu_new" if c.afn == "gelu" else c.afn
    layers = []
    for _ in range(c.n_layer):
        at = "transformer.h.{i}"
        weights = fused(f"{at}.attn.c_attn", {"q": width, "k": width, "v": width}, bias=True, view=transposed)
        weights |= linear("o", f"{at}.attn.c_proj", transposed)
        weights["o_bias"] = Source(f"{at}.attn.c_proj.bias")
        mixer = attention(heads, head_dim=width // heads, width=width, bias=True, weights=weights)
        ffn = conv1d(dense(f"{at}.mlp", c.get("n_inner") or 4 * width, act, up="c_fc", down="c_proj"))
        eps = c.layer_norm_epsilon
        layers.append(two(mixer, ffn, layer(f"{at}.ln_1", eps), layer(f"{at}.ln_2", eps), post=is_first))
    names = ("tokens_embed", "positions_embed") if is_first else ("wte", "wpe")
    return decoder(
        c,
        layers,
        final=None if is_first else layer("transformer.ln_f", c.layer_norm_epsilon),
        position={"kind": "learned"},
        tokens=f"transformer.{names[0]}.weight",
        width=width,
        context=c.n_positions,
        tables={"position": Source(f"transformer.{names[1]}.weight")},
    )


def bigcode(c: Config) -> Model:
    """One key head for all queries."""
    width, heads = c.n_embd, c.n_head
    head_dim = width // heads
    layers = []
    for _ in range(c.n_layer):
        at = "transformer.h.{i}"
        if c.multi_query:
            weights = fused(f"{at}.attn.c_attn", {"q": width, "k": head_dim, "v": head_dim}, bias=True)
        else:
            weights = fused_by_head(f"{at}.attn.c_attn", heads, bias=True)
        weights |= linear("o", f"{at}.attn.c_proj", bias=True)
        mixer = attention(
            heads,
            kv_heads=1 if c.multi_query else None,
            head_dim=head_dim,
            width=width,
            bias=True,
            scale=None if c.get("scale_attn_weights", True) else 1.0,
            weights=weights,
        )
        ffn = dense(f"{at}.mlp", c.get("n_inner") or 4 * width, c.activation_function, up="c_fc", down="c_proj")
        eps = c.layer_norm_epsilon
        layers.append(two(mixer, ffn, layer(f"{at}.ln_1", eps), layer(f"{at}.ln_2", eps)))
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


def gpt_neo(c: Config) -> Model:
    """Scores are not divided; every other layer sees a window."""
    layers = []
    for i in range(c.num_layers):
        at = "transformer.h.{i}"
        weights = projections(f"{at}.attn.attention", ("q_proj", "k_proj", "v_proj", "out_proj"), biased="o")
        mixer = attention(
            c.num_heads,
            head_dim=c.hidden_size // c.num_heads,
            width=c.hidden_size,
            window=c.window_size if c.attention_layers[i] == "local" else None,
            bias=["o"],
            scale=1.0,
            weights=weights,
        )
        hidden = c.get("intermediate_size") or 4 * c.hidden_size
        ffn = dense(f"{at}.mlp", hidden, c.activation_function, up="c_fc", down="c_proj")
        eps = c.layer_norm_epsilon
        layers.append(two(mixer, ffn, layer(f"{at}.ln_1", eps), layer(f"{at}.ln_2", eps)))
    return decoder(
        c,
        layers,
        final=layer("transformer.ln_f", c.layer_norm_epsilon),
        position={"kind": "learned"},
        tokens="transformer.wte.weight",
        tables={"position": Source("transformer.wpe.weight")},
    )


def codegen(c: Config) -> Model:
    """q, k and v lie in one matrix."""
    at = "transformer.h.{i}.attn"
    return gptj(c, {**_codegen(f"{at}.qkv_proj", c.n_embd), "o": Source(f"{at}.out_proj.weight")})


def gptj(c: Config, own: Weights | None = None) -> Model:
    """Attention and feed-forward beside each other behind one norm; neighbouring pairs turn; logits have a bias.

    own: the weights of attention, where they lie otherwise.
    """
    width, heads = c.n_embd, c.n_head
    dims = c.get("rotary_dim") or width // heads
    position = {"kind": "rope", "pairs": "neighbours", **({"dims": dims} if dims != width // heads else {})}
    layers = []
    for _ in range(c.n_layer):
        at = "transformer.h.{i}"
        weights = own or projections(f"{at}.attn", ("q_proj", "k_proj", "v_proj", "out_proj"))
        mixer = attention(heads, head_dim=width // heads, width=width, weights=weights)
        ffn = dense(f"{at}.mlp", c.get("n_inner") or 4 * width, c.activation_function, up="fc_in", down="fc_out")
        layers.append(two(mixer, ffn, layer(f"{at}.ln_1", c.layer_norm_epsilon), None, parallel=True))
    return decoder(
        c,
        layers,
        final=layer("transformer.ln_f", c.layer_norm_epsilon),
        position=position,
        tokens="transformer.wte.weight",
        width=width,
        context=c.n_positions,
        readout=Part({"bias": True}, {"bias": Source("lm_head.bias")}),
    )


def _codegen(theirs: str, width: int) -> Weights:
    """q, v, k side by side within each of four slices."""
    return {
        ours: Source(f"{theirs}.weight", lambda tensor, index=index: tensor.unflatten(0, (4, 3, width // 4))[:, index])
        for ours, index in (("q", 0), ("v", 1), ("k", 2))
    }


def neox_japanese(c: Config) -> Model:
    """Attention has a bias in the last layer alone."""
    return neox(c, japanese=True)


def neox(c: Config, *, japanese: bool = False) -> Model:
    """Two norms beside each other, part of each head turns."""
    heads, eps = c.num_attention_heads, c.layer_norm_eps
    head_dim = c.hidden_size // heads
    bias = False if japanese else bool(c.attention_bias)
    hidden = c.hidden_size * c.intermediate_multiple_size if japanese else c.intermediate_size
    layers = []
    for i in range(c.num_hidden_layers):
        at = "gpt_neox_japanese.layers.{i}" if japanese else "gpt_neox.layers.{i}"
        weights = fused_by_head(f"{at}.attention.query_key_value", heads, bias=bias)
        weights |= linear("o", f"{at}.attention.dense", bias=bias)
        own: Any = bias
        if japanese and i == c.num_hidden_layers - 1:
            weights["o_bias"], own = Source(f"{at}.attention.dense_bias"), ["o"]
        mixer = attention(heads, head_dim=head_dim, width=c.hidden_size, bias=own, weights=weights)
        ffn = dense(f"{at}.mlp", int(hidden), c.hidden_act, bias=not japanese, up="dense_h_to_4h", down="dense_4h_to_h")
        norms = layer(f"{at}.input_layernorm", eps), layer(f"{at}.post_attention_layernorm", eps)
        layers.append(two(mixer, ffn, *norms, parallel=c.get("use_parallel_residual", not japanese)))
    root = "gpt_neox_japanese" if japanese else "gpt_neox"
    return decoder(
        c,
        layers,
        final=layer(f"{root}.final_layer_norm", eps),
        position=rope(c, head_dim),
        tokens=f"{root}.embed_in.weight",
        head="embed_out.weight|lm_head.weight",
    )


def bloom(c: Config) -> Model:
    """ALiBi; a norm of the embedding."""
    heads, eps, width = c.n_head, c.layer_norm_epsilon, c.hidden_size
    if c.get("apply_residual_connection_post_layernorm", False):
        raise refuse(c, "a residual taken behind the norm")
    layers = []
    for _ in range(c.n_layer):
        at = "transformer.h.{i}"
        weights = fused_by_head(f"{at}.self_attention.query_key_value", heads, bias=True)
        weights |= linear("o", f"{at}.self_attention.dense", bias=True)
        mixer = attention(heads, head_dim=width // heads, width=width, bias=True, weights=weights)
        ffn = dense(f"{at}.mlp", 4 * width, "gelu_new", up="dense_h_to_4h", down="dense_4h_to_h")
        layers.append(
            two(mixer, ffn, layer(f"{at}.input_layernorm", eps), layer(f"{at}.post_attention_layernorm", eps))
        )
    first = layer("transformer.word_embeddings_layernorm", eps)
    return decoder(
        c,
        layers,
        final=layer("transformer.ln_f", eps),
        position={"kind": "alibi"},
        tokens="transformer.word_embeddings.weight",
        width=width,
        context=c.get("seq_length", 2048),
        embedding=Part({"norm": first.data}, {f"norm.{name}": source for name, source in first.weights.items()}),
    )


def mpt(c: Config) -> Model:
    """ALiBi; no bias anywhere."""
    heads, eps, width = c.n_heads, c.layer_norm_epsilon, c.d_model
    said = c.attn_config
    if not said.get("alibi", True) or said.get("qk_ln", False) or said.get("prefix_lm", False):
        raise refuse(c, "learned positions, norms of q and k, or a prefix")
    layers = []
    for _ in range(c.n_layers):
        at = "transformer.blocks.{i}"
        weights = fused(f"{at}.attn.Wqkv", {"q": width, "k": width, "v": width})
        weights["o"] = Source(f"{at}.attn.out_proj.weight")
        mixer = attention(
            heads,
            head_dim=width // heads,
            width=width,
            clip=said.get("clip_qkv"),
            scale=said.get("softmax_scale"),
            weights=weights,
        )
        ffn = dense(f"{at}.ffn", c.expansion_ratio * width, "gelu", bias=False, up="up_proj", down="down_proj")
        norms = (layer(f"{at}.norm_{n}", eps, bias=False) for n in (1, 2))
        layers.append(two(mixer, ffn, *norms))
    return decoder(
        c,
        layers,
        final=layer("transformer.norm_f", eps, bias=False),
        position={"kind": "alibi"},
        tokens="transformer.wte.weight",
        width=width,
        context=c.max_seq_len,
    )


def falcon(c: Config) -> Model:
    """Attention and feed-forward beside each other; one key head, or groups in one matrix."""
    heads, eps, width, bias = c.num_attention_heads, c.layer_norm_epsilon, c.hidden_size, bool(c.bias)
    head_dim, grouped = width // heads, c.new_decoder_architecture
    keys = c.num_kv_heads if grouped or not c.multi_query else 1
    norms_of = c.get("num_ln_in_parallel_attn") or (2 if grouped else 1)
    each = heads // keys if grouped or c.multi_query else 1
    layers = []
    for _ in range(c.num_hidden_layers):
        at = "transformer.h.{i}"
        weights = _falcon(f"{at}.self_attention.query_key_value", keys, each, head_dim, bias=bias)
        weights |= linear("o", f"{at}.self_attention.dense", bias=bias)
        mixer = attention(heads, kv_heads=keys, head_dim=head_dim, width=width, bias=bias, weights=weights)
        hidden = c.get("ffn_hidden_size") or 4 * width
        ffn = dense(
            f"{at}.mlp", hidden, c.get("activation", "gelu"), bias=bias, up="dense_h_to_4h", down="dense_4h_to_h"
        )
        names = ("ln_attn", "ln_mlp") if grouped and norms_of == 2 else ("input_layernorm", "post_attention_layernorm")
        one, other = (layer(f"{at}.{name}", eps) for name in names)
        is_single = (grouped or c.parallel_attn) and norms_of == 1
        layers.append(two(mixer, ffn, one, None if is_single else other, parallel=grouped or c.parallel_attn))
    position = {"kind": "alibi", "scale": head_dim**-0.5} if c.alibi else rope(c, head_dim)
    return decoder(
        c,
        layers,
        final=layer("transformer.ln_f", eps),
        position=position,
        tokens="transformer.word_embeddings.weight",
    )


def _falcon(theirs: str, keys: int, each: int, dim: int, *, bias: bool) -> Weights:
    """Groups of several queries, a key and a value, one behind the other."""

    def view(start: int, count: int) -> View:
        return lambda tensor: tensor.unflatten(0, (keys, each + 2, dim))[:, start : start + count]

    weights: Weights = {}
    for ours, start, count in (("q", 0, each), ("k", each, 1), ("v", each + 1, 1)):
        weights[ours] = Source(f"{theirs}.weight", view(start, count))
        if bias:
            weights[f"{ours}_bias"] = Source(f"{theirs}.bias", view(start, count))
    return weights


def persimmon(c: Config) -> Model:
    """q, k, v by head in one matrix, with layer norms of q and k."""
    heads, eps = c.num_attention_heads, c.layer_norm_eps
    head_dim = c.hidden_size // heads
    layers = []
    for _ in range(c.num_hidden_layers):
        at = "model.layers.{i}"
        weights = fused_by_head(f"{at}.self_attn.query_key_value", heads, bias=True)
        weights |= linear("o", f"{at}.self_attn.dense", bias=True)
        norms = tuple(layer(f"{at}.self_attn.{k}_layernorm", eps) for k in "qk") if c.qk_layernorm else None
        mixer = attention(heads, head_dim=head_dim, width=c.hidden_size, bias=True, norms=norms, weights=weights)
        ffn = dense(f"{at}.mlp", c.intermediate_size, c.hidden_act, up="dense_h_to_4h", down="dense_4h_to_h")
        layers.append(
            two(mixer, ffn, layer(f"{at}.input_layernorm", eps), layer(f"{at}.post_attention_layernorm", eps))
        )
    return decoder(c, layers, final=layer("model.final_layernorm", eps), position=rope(c, head_dim))
