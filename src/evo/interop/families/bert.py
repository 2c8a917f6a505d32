"""BERT and its line, RemBERT, and XLM, run as decoders: norms behind, types folded into positions."""

from dataclasses import dataclass, replace

from evo.interop.assemble import Layer, Model, Sub
from evo.interop.attention import attention, projections
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.families.gpt import two
from evo.interop.parts import ACTS, Data, Part, Source, Weights, act_of, dense, layer, linear, under

BEHIND = ("attention.output.LayerNorm", "output.LayerNorm")
"""The norms of a layer that has them behind its branches."""


@dataclass(frozen=True)
class Head:
    """A readout: its bias, and the map before it with the norm of that, if there is one.

    act: between them; the configuration's if left out.
    """

    bias: str
    at: str | None = None
    norm: str = "LayerNorm"
    act: str | None = None


PREDICTIONS = Head("cls.predictions.bias", "cls.predictions.transform")
LM_HEAD = Head("lm_head.bias", "lm_head", norm="layer_norm", act="gelu")


@dataclass(frozen=True)
class Settings:
    """What differs between them.

    padded: whether positions begin behind the padding token. norms: of a layer, and pre, whether they stand before the
    branches. final: the last norm; of an adapted one only if its norms stand before. typed: whether there is a table
    of types. rotates: whether q and k turn, in place of a table of positions. normed: whether the embedding has a norm.
    may_narrow: whether tokens may have a narrower width, which types have too. joined: whether shapes and sounds stand
    beside tokens. adapted: whether an adapter of the language stands behind the feed-forward. head: the readout;
    untied: its table, if it has its own.
    """

    root: str
    padded: bool = False
    norms: tuple[str, str] = BEHIND
    pre: bool = False
    final: str | None = None
    typed: bool = True
    rotates: bool = False
    normed: bool = True
    may_narrow: bool = False
    joined: bool = False
    adapted: bool = False
    head: Head = PREDICTIONS
    untied: str | None = None


ROBERTA = Settings("roberta", padded=True, head=LM_HEAD)
SETTINGS = {
    "bert": Settings("bert"),
    "big_bird": Settings("bert"),
    "ernie": Settings("ernie"),
    "bert-generation": Settings("bert", typed=False, head=Head("lm_head.bias")),
    "git": Settings("git", typed=False, head=Head("output.bias"), untied="output.weight"),
    "megatron-bert": Settings("bert", norms=("attention.ln", "ln"), pre=True, final="encoder.ln", normed=False),
    "electra": Settings(
        "electra", may_narrow=True, head=Head("generator_lm_head.bias", "generator_predictions", act="gelu")
    ),
    "roc_bert": Settings("roc_bert", joined=True),
    "roformer": Settings("roformer", rotates=True),
    "camembert": ROBERTA,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "data2vec-text": replace(ROBERTA, root="data2vec_text"),
    "roberta-prelayernorm": replace(
        ROBERTA,
        root="roberta_prelayernorm",
        norms=("attention.LayerNorm", "intermediate.LayerNorm"),
        pre=True,
        final="LayerNorm",
    ),
    "xlm-roberta-xl": replace(
        ROBERTA,
        norms=("attention.self_attn_layer_norm", "LayerNorm"),
        pre=True,
        final="encoder.LayerNorm",
        normed=False,
    ),
    "xmod": replace(ROBERTA, final="encoder.LayerNorm", adapted=True),
}


def bert(c: Config) -> Model:
    """The layers are those of BERT; RoBERTa's line begins its table of positions behind the padding token."""
    if c.get("position_embedding_type", "absolute") != "absolute":
        raise refuse(c, "relative positions")
    s = SETTINGS[c.type]
    root, eps, heads = s.root, c.layer_norm_eps, c.num_attention_heads
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
        norms = [layer(f"{at}.{name}", eps) for name in s.norms]
        layers.append(_adapted(c, mixer, ffn, *norms) if s.adapted else two(mixer, ffn, *norms, post=not s.pre))
    has_final = s.final is not None and (c.pre_norm if s.adapted else True)
    return decoder(
        c,
        layers,
        final=layer(f"{root}.{s.final}", eps) if has_final else None,
        position={"kind": "rope", "pairs": "neighbours"} if s.rotates else {"kind": "learned"},
        tokens=f"{root}.embeddings.word_embeddings.weight",
        head=s.untied,
        context=c.max_position_embeddings - _offset(c, s),
        embedding=_embedding(c, s, eps),
        readout=_readout(c, s.head, eps),
        tables=_tables(c, s),
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


def _offset(c: Config, s: Settings) -> int:
    """Rows of the table before the first position."""
    return c.get("pad_token_id", 1) + 1 if s.padded else 0


def _tables(c: Config, s: Settings) -> Weights:
    """Positions, and the vector of the first type, which every token has."""
    if s.rotates:
        return {}
    at, start = f"{s.root}.embeddings", _offset(c, s)
    plus = ((f"{at}.token_type_embeddings.weight", lambda tensor: tensor[:1]),) if s.typed else ()
    return {"position": Source(f"{at}.position_embeddings.weight", lambda tensor: tensor[start:], plus=plus)}


def _embedding(c: Config, s: Settings, eps: float) -> Part:
    data: Data = {}
    weights: Weights = {}
    inner = c.get("embedding_size") or c.get("input_embedding_size") or c.hidden_size
    if inner != c.hidden_size and not s.may_narrow:
        raise refuse(c, "the vector of a type beside narrower ones of tokens")
    if inner != c.hidden_size:
        data |= {"width": inner, "bias": True, "project_last": True}
        weights |= _map(f"{s.root}.embeddings_project", "project", "bias")
    if c.get("rescale_embeddings", False):
        data["scale"] = c.hidden_size**0.5
    if s.joined and c.concat_input:
        data |= {"width": c.hidden_size, "bias": True}
        weights |= _joined(c, f"{s.root}.embeddings.map_inputs_layer")
    if s.rotates:
        data["bias"] = True
        weights["bias"] = Source(f"{s.root}.embeddings.token_type_embeddings.weight", lambda tensor: tensor[0])
    if s.normed:
        norm = layer(f"{s.root}.embeddings.LayerNorm", eps)
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


def _readout(c: Config, head: Head, eps: float) -> Part:
    bias: Weights = {"bias": Source(head.bias)}
    if head.at is None:
        return Part({"bias": True}, bias)
    norm = layer(f"{head.at}.{head.norm}", eps)
    transform: Data = {"act": head.act or ACTS.get(c.hidden_act, c.hidden_act), "norm": norm.data}
    maps = _map(f"{head.at}.dense", "transform", "transform_bias")
    return Part({"bias": True, "transform": transform}, {**maps, **under("norm", norm.weights), **bias})


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
        tables=_tables(c, Settings("rembert")),
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
