"""BERT and its line, RemBERT, and XLM, run as decoders: norms behind, types folded into positions."""

from evo.interop.assemble import Layer, Model, Sub
from evo.interop.attention import attention, projections
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.families.gpt import two
from evo.interop.parts import ACTS, Data, Part, Source, Weights, act_of, dense, layer, linear, under

ROOTS = {
    "camembert": "roberta",
    "xlm-roberta": "roberta",
    "xlm-roberta-xl": "roberta",
    "xmod": "roberta",
    "data2vec-text": "data2vec_text",
    "bert-generation": "bert",
    "big_bird": "bert",
    "megatron-bert": "bert",
    "roberta-prelayernorm": "roberta_prelayernorm",
}
ROBERTA = ("camembert", "roberta", "xlm-roberta", "xlm-roberta-xl", "data2vec-text", "roberta-prelayernorm", "xmod")
PRE = ("megatron-bert", "roberta-prelayernorm", "xlm-roberta-xl")


def bert(c: Config) -> Model:
    """The layers are those of BERT; RoBERTa's line begins its table of positions behind the padding token."""
    if c.get("position_embedding_type", "absolute") != "absolute":
        raise refuse(c, "relative positions")
    root, pre = ROOTS.get(c.type, c.type), c.type in PRE
    eps, heads = c.layer_norm_eps, c.num_attention_heads
    layers = []
    for _ in range(c.num_hidden_layers):
        at = f"{root}.encoder.layer.{{i}}"
        weights = projections(
            f"{at}.attention.self", ("query", "key", "value", ""), biased="qkvo", out=f"{at}.attention.output.dense"
        )
        bias = c.get("use_bias", True)
        if not bias:
            weights = {name: source for name, source in weights.items() if name in ("q", "k", "v", "o", "o_bias")}
        mixer = attention(
            heads, head_dim=c.hidden_size // heads, width=c.hidden_size, bias=True if bias else ["o"], weights=weights
        )
        ffn = dense(at, c.intermediate_size, c.hidden_act, up="intermediate.dense", down="output.dense")
        names = ("attention.output.LayerNorm", "output.LayerNorm")
        if pre:
            names = _pre_names(c)
        norms = [layer(f"{at}.{name}", eps) for name in names]
        layers.append(two(mixer, ffn, *norms, post=not pre) if c.type != "xmod" else _adapted(c, mixer, ffn, *norms))
    final = _final(c, root, eps)
    return decoder(
        c,
        layers,
        final=final,
        position={"kind": "learned"} if c.type != "roformer" else {"kind": "rope", "pairs": "neighbours"},
        tokens=f"{root}.embeddings.word_embeddings.weight",
        head="output.weight" if c.type == "git" else None,
        context=c.max_position_embeddings - (_offset(c) if c.type in ROBERTA else 0),
        embedding=_embedding(c, root, eps),
        readout=_readout(c, root, eps),
        tables=_tables(c, root),
    )


def _adapted(c: Config, mixer: Part, ffn: Part, one: Part, other: Part) -> Layer:
    """X-MOD's: an adapter of the language behind the feed-forward, whose norm may stand in several places."""
    if c.get("default_language") is None:
        raise refuse(c, "no language of its own (`default_language`)")
    at = "roberta.encoder.layer.{i}.output"
    hidden, adapter = c.hidden_size // c.adapter_reduction_factor, f"{at}.adapter_modules.{c.default_language}"
    narrow = dense(adapter, hidden, c.hidden_act, up="dense1", down="dense2")
    own = layer(f"{at}.adapter_layer_norm", c.layer_norm_eps) if c.adapter_layer_norm else None
    before = own or (other if c.adapter_reuse_layer_norm else None)
    first, last = (one, None) if c.pre_norm else (None, one)
    into, end = (other, None) if c.pre_norm else (None, other)
    over, within = (before, None) if c.ln_before_adapter else (None, before)
    return [Sub(mixer, pre=first, after=last), Sub(ffn, pre=into, after=over), Sub(narrow, pre=within, after=end)]


def _pre_names(c: Config) -> tuple[str, str]:
    if c.type == "megatron-bert":
        return "attention.ln", "ln"
    return (
        ("attention.LayerNorm", "intermediate.LayerNorm")
        if c.type == "roberta-prelayernorm"
        else (
            "attention.self_attn_layer_norm",
            "LayerNorm",
        )
    )


def _final(c: Config, root: str, eps: float) -> Part | None:
    if c.type == "xmod" and c.pre_norm:
        return layer("roberta.encoder.LayerNorm", eps)
    if c.type not in PRE:
        return None
    names = {"megatron-bert": "encoder.ln", "roberta-prelayernorm": "LayerNorm", "xlm-roberta-xl": "encoder.LayerNorm"}
    return layer(f"{root}.{names[c.type]}", eps)


def _offset(c: Config) -> int:
    return c.get("pad_token_id", 1) + 1


def _tables(c: Config, root: str) -> Weights:
    """Positions, and the vector of the first type, which every token has."""
    if c.type == "roformer":
        return {}
    start = _offset(c) if c.type in ROBERTA else 0
    has_types = c.type not in ("bert-generation", "git")
    plus = ((f"{root}.embeddings.token_type_embeddings.weight", lambda tensor: tensor[:1]),) if has_types else ()
    return {
        "position": Source(f"{root}.embeddings.position_embeddings.weight", lambda tensor: tensor[start:], plus=plus)
    }


def _embedding(c: Config, root: str, eps: float) -> Part:
    data: Data = {}
    weights: Weights = {}
    inner = c.get("embedding_size") or c.get("input_embedding_size") or c.hidden_size
    if inner != c.hidden_size and c.type != "electra":
        raise refuse(c, "the vector of a type beside narrower ones of tokens")
    if inner != c.hidden_size:
        data |= {"width": inner, "bias": True, "project_last": True}
        weights |= _map(f"{root}.embeddings_project", "project", "bias")
    if c.get("rescale_embeddings", False):
        data["scale"] = c.hidden_size**0.5
    if c.type == "roc_bert" and c.concat_input:
        data |= {"width": c.hidden_size, "bias": True}
        weights |= _joined(c, f"{root}.embeddings.map_inputs_layer")
    if c.type == "roformer":
        data["bias"] = True
        weights["bias"] = Source(f"{root}.embeddings.token_type_embeddings.weight", lambda tensor: tensor[0])
    if c.type not in ("megatron-bert", "xlm-roberta-xl"):
        norm = layer(f"{root}.embeddings.LayerNorm", eps)
        data["norm"] = norm.data
        weights |= under("norm", norm.weights)
    return Part(data, weights)


def _joined(c: Config, at: str) -> Weights:
    """The map of a token's vector; shapes and sounds, where none are given, are those of the padding: zeros."""
    if c.pad_token_id != 0:
        raise refuse(c, "a padding token that is not 0, whose shape and sound every token has")
    return linear("project", at, lambda tensor: tensor[:, : c.hidden_size]) | {"bias": Source(f"{at}.bias")}


def _map(theirs: str, weight: str, bias: str) -> Weights:
    """A linear map with names of their own for its weight and its bias."""
    return {weight: Source(f"{theirs}.weight"), bias: Source(f"{theirs}.bias")}


def _readout(c: Config, root: str, eps: float) -> Part:
    if c.type in ("bert-generation", "git"):
        return Part({"bias": True}, {"bias": Source("lm_head.bias" if c.type == "bert-generation" else "output.bias")})
    data: Data = {"bias": True}
    if c.type in ROBERTA:
        head, names, own = "lm_head", ("dense", "layer_norm"), "lm_head.bias"
        act = "gelu"
    elif c.type == "electra":
        head, names, own = "generator_predictions", ("dense", "LayerNorm"), "generator_lm_head.bias"
        act = "gelu"
    else:
        head, names, own = "cls.predictions.transform", ("dense", "LayerNorm"), "cls.predictions.bias"
        act = ACTS.get(c.hidden_act, c.hidden_act)
    norm = layer(f"{head}.{names[1]}", eps)
    data["transform"] = {"act": act, "norm": norm.data}
    maps = _map(f"{head}.{names[0]}", "transform", "transform_bias")
    return Part(data, {**maps, **under("norm", norm.weights), "bias": Source(own)})


def rembert(c: Config) -> Model:
    """Tokens, positions and their norm in a narrower width; a readout in a wider one."""
    eps, at, heads = c.layer_norm_eps, "rembert.encoder.layer.{i}", c.num_attention_heads
    names = ("query", "key", "value", "")
    maps = projections(f"{at}.attention.self", names, biased="qkvo", out=f"{at}.attention.output.dense")
    mixer = attention(heads, head_dim=c.hidden_size // heads, width=c.hidden_size, bias=True, weights=maps)
    ffn = dense(at, c.intermediate_size, c.hidden_act, up="intermediate.dense", down="output.dense")
    norms = (layer(f"{at}.{name}", eps) for name in ("attention.output.LayerNorm", "output.LayerNorm"))
    into = _map("rembert.encoder.embedding_hidden_mapping_in", "project", "bias")
    head = "cls.predictions"
    first, last = layer("rembert.embeddings.LayerNorm", eps), layer(f"{head}.LayerNorm", eps)
    embedding: Data = {"width": c.input_embedding_size, "bias": True, "project_last": True, "norm": first.data}
    transform: Data = {"act": act_of(c.hidden_act), "norm": last.data, "width": c.output_embedding_size}
    ends = {
        **_map(f"{head}.dense", "transform", "transform_bias"),
        "bias": Source(f"{head}.decoder.bias"),
        **under("norm", last.weights),
    }
    return decoder(
        c,
        [two(mixer, ffn, *norms, post=True)] * c.num_hidden_layers,
        final=None,
        position={"kind": "learned"},
        tokens="rembert.embeddings.word_embeddings.weight",
        head=f"{head}.decoder.weight",
        embedding=Part(embedding, {**into, **under("norm", first.weights)}),
        readout=Part({"bias": True, "transform": transform}, ends),
        tables=_tables(c, "rembert"),
    )


def xlm(c: Config) -> Model:
    """XLM as a causal model: a bias of the logits, and no language, as where none is given."""
    if not c.causal or c.get("asm", False):
        raise refuse(c, "attention to both sides, or an adaptive softmax")
    width, eps, heads = c.emb_dim, c.layer_norm_eps, c.n_heads
    names = ("q_lin", "k_lin", "v_lin", "out_lin")
    weights = projections("transformer.attentions.{i}", names, biased="qkvo")
    mixer = attention(heads, head_dim=width // heads, width=width, bias=True, weights=weights)
    ffn = dense("transformer.ffns.{i}", 4 * width, "gelu" if c.gelu_activation else "relu", up="lin1", down="lin2")
    norms = (layer(f"transformer.layer_norm{k}.{{i}}", eps) for k in (1, 2))
    first = layer("transformer.layer_norm_emb", eps)
    return decoder(
        c.called(vocab_size="n_words"),
        [two(mixer, ffn, *norms, post=True)] * c.n_layers,
        final=None,
        position={"kind": "learned"},
        tokens="transformer.embeddings.weight",
        head="pred_layer.proj.weight",
        width=width,
        embedding=Part({"norm": first.data}, under("norm", first.weights)),
        readout=Part({"bias": True}, {"bias": Source("pred_layer.proj.bias")}),
        tables={"position": Source("transformer.position_embeddings.weight")},
    )
