"""Llama and those that differ by a setting or two: RMS norms, rotation, grouped attention, gated feed-forwards."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from evo.interop.assemble import Beside, Layer, Model, Sub
from evo.interop.attention import NO_POSITION, attention, biases, projections, rope
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.parts import Data, Part, Source, Weights, dense, gated, gated_fused, layer, rms, rows

AT = "model.layers.{i}"
Norm = Callable[[str], Part]


@dataclass(frozen=True)
class Llama:
    """What a line of architectures changes of Llama; each field is a function of the configuration or a word.

    biased: projections with a bias, as letters. norm: of a name, the norm. qk: of a name, the norm of q or k. slots:
    the names of the norms before and after attention, and before and after the feed-forward; None for none. ffn: of a
    layer's number, the feed-forward. weights: of attention, weights_of: by layer. options: of attention,
    by layer. gain: of every branch.
    numbers: of the layers that are run, where some are not.
    """

    c: Config
    biased: str = ""
    norm: Norm | None = None
    qk: Norm | None = None
    slots: tuple[str | None, str | None, str | None, str | None] = (
        "input_layernorm",
        None,
        "post_attention_layernorm",
        None,
    )
    ffn: Callable[[int], Part] | None = None
    weights: Weights | None = None
    weights_of: Callable[[int], Weights] | None = None
    options: Callable[[int], Data] | None = None
    position: Data | None = None
    parallel: bool = False
    gain: float = 1.0
    pairs: str = "halves"
    scale: float | None = None
    embedding: Part | None = None
    readout: Part | None = None
    final: str = "model.norm"
    head_dim: int | None = None
    at: str = AT
    tokens: str = "model.embed_tokens.weight"
    numbers: tuple[int, ...] | None = None

    def normed(self, name: str) -> Part:
        """The norm of a name."""
        return self.norm(name) if self.norm else rms(name, self.c.rms_norm_eps)

    def model(self) -> Model:
        """The whole model."""
        c = self.c
        layers = [self._layer(i) for i in self.numbers or range(c.num_hidden_layers)]
        return decoder(
            c,
            layers,
            final=self.normed(self.final),
            position=self.position or rope(c, self.width_of_head, pairs=self.pairs),
            embedding=self.embedding,
            readout=self.readout,
            numbers=self.numbers,
            tokens=self.tokens,
        )

    @property
    def width_of_head(self) -> int:
        """The width of a head."""
        return self.head_dim or self.c.get("head_dim") or self.c.hidden_size // self.c.num_attention_heads

    def mixer(self, index: int) -> Part:
        """The attention of a layer."""
        c = self.c
        norms = None if self.qk is None else tuple(self.qk(f"{self.at}.self_attn.{k}") for k in ("q", "k"))
        options: Data = {
            "bias": biases(self.biased),
            "window": window_of(c, index),
            "position": position_of(c, index, self.width_of_head, self.pairs),
            "scale": self.scale,
            "kv_heads": c.get("num_key_value_heads"),
        }
        own = self.weights_of(index) if self.weights_of else self.weights
        return attention(
            c.num_attention_heads,
            head_dim=self.width_of_head,
            width=c.hidden_size,
            norms=norms,
            weights=own or projections(f"{self.at}.self_attn", biased=self.biased),
            **{**options, **(self.options(index) if self.options else {})},
        )

    def _layer(self, index: int) -> Layer:
        c = self.c
        ffn = self.ffn(index) if self.ffn else gated(f"{self.at}.mlp", c.intermediate_size, c.hidden_act)
        slots = [self.normed(f"{self.at}.{name}") if name else None for name in self.slots]
        first = Sub(self.mixer(index), pre=slots[0], out=slots[1], gain=self.gain)
        second = Sub(ffn, pre=slots[2], out=slots[3], gain=self.gain)
        if not self.parallel:
            return [first, second]
        if slots[2] is not None:
            return [Beside((first, second))]
        return [Beside((Sub(first.block), Sub(ffn)), pre=slots[0])]


def window_of(c: Config, index: int) -> int | None:
    """The window of a layer: of every one, or of those that `layer_types` names."""
    types = c.get("layer_types")
    if types is not None:
        return c.get("sliding_window") if types[index] == "sliding_attention" else None
    return c.get("sliding_window") if c.get("use_sliding_window", True) else None


def position_of(c: Config, index: int, head_dim: int, pairs: str = "halves") -> Data | None:
    """The position encoding of a layer where it is not that of the organism."""
    kept = c.get("no_rope_layers")
    if kept is not None and not kept[index]:
        return NO_POSITION
    said: Any = c.get("rope_parameters") or {}
    if isinstance(said, dict) and c.get("layer_types") and set(c.layer_types) & said.keys():
        own = said[c.layer_types[index]]
        return NO_POSITION if own is None else rope(c, head_dim, own, pairs=pairs)
    return None


def qwen2(c: Config) -> Model:
    """Biases on q, k and v."""
    return llama(c, biased="qkv")


def llama(c: Config, biased: str | None = None) -> Model:
    """Llama, Mistral and those that are the same. biased: projections with a bias, where no configuration says."""
    if biased is None:
        biased = "qkvo" if c.get("attention_bias", False) else ""
    bias = c.get("mlp_bias", False)
    return Llama(
        c, biased=biased, ffn=lambda i: gated(f"{AT}.mlp", c.intermediate_size, c.hidden_act, bias=bias)
    ).model()


def mllama(c: Config) -> Model:
    """Llama without the layers that only look at pictures; the table has rows more than there are symbols."""
    numbers = tuple(i for i in range(c.num_hidden_layers) if i not in c.cross_attention_layers)
    model = Llama(c, numbers=numbers).model()
    table = Source("model.embed_tokens.weight", rows(0, c.vocab_size))
    return Model(model.organism, {**model.weights, "embedding.weight": table})


def qwen3(c: Config) -> Model:
    """A norm of each head's q and k."""
    return Llama(
        c, biased="qkvo" if c.get("attention_bias", False) else "", qk=lambda name: rms(f"{name}_norm", c.rms_norm_eps)
    ).model()


def arcee(c: Config) -> Model:
    """A dense feed-forward."""
    biased = "qkvo" if c.get("attention_bias", False) else ""
    return Llama(c, biased=biased, ffn=lambda i: up_down(c)).model()


def up_down(c: Config, bias: bool | None = None) -> Part:
    """down_proj(act(up_proj x))."""
    has = c.get("mlp_bias", False) if bias is None else bias
    return dense(f"{AT}.mlp", c.intermediate_size, c.hidden_act, bias=has, up="up_proj", down="down_proj")


def ministral3(c: Config) -> Model:
    """Scores that grow with the position."""
    said: Data = c.get("rope_parameters") or {}
    slope, period = said.get("llama_4_scaling_beta"), said.get("original_max_position_embeddings", 0)
    heat = None if not slope else {"temperature": {"slope": float(slope), "period": int(period)}}
    return Llama(c, options=lambda i: heat or {}).model()


def seed_oss(c: Config) -> Model:
    """Biases on q, k, v, and perhaps o."""
    biased = ("qkv" if c.attention_bias else "") + ("o" if c.get("attention_out_bias", False) else "")
    bias = c.get("mlp_bias", False)
    return Llama(
        c, biased=biased, ffn=lambda i: gated(f"{AT}.mlp", c.intermediate_size, c.hidden_act, bias=bias)
    ).model()


def hyperclovax(c: Config) -> Model:
    """Granite's multipliers, and perhaps norms behind the branches too."""
    after = c.get("use_post_norm", True)
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        slots=(
            "input_layernorm",
            "post_norm1" if after else None,
            "post_attention_layernorm",
            "post_norm2" if after else None,
        ),
        ffn=lambda i: gated(f"{AT}.mlp", c.intermediate_size, c.hidden_act, bias=c.get("mlp_bias", False)),
        gain=float(c.residual_multiplier),
        scale=float(c.attention_multiplier),
        embedding=scaled(float(c.embedding_multiplier)),
        readout=scaled(float(c.logits_scaling)),
    ).model()


def scaled(scale: float) -> Part:
    """An end that multiplies."""
    return Part({} if scale == 1.0 else {"scale": scale})


def exaone4(c: Config) -> Model:
    """Norms behind branches only; rotation only in windows, where there are windows."""

    def options(i: int) -> Data:
        is_global = c.get("sliding_window") is not None and window_of(c, i) is None
        return {"position": NO_POSITION} if is_global else {}

    return Llama(
        c,
        qk=lambda name: rms(f"{name}_norm", c.rms_norm_eps),
        slots=(None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
        options=options,
    ).model()


def olmo(c: Config) -> Model:
    """Layer norms without gain and bias; q, k, v within bounds."""
    clip = c.get("clip_qkv")
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        norm=lambda name: layer(name, 1e-5, bias=False, gain=False),
        options=lambda i: {"clip": clip},
    ).model()


def olmo2(c: Config) -> Model:
    """Norms behind branches only, and of all of q and of k."""
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        qk=lambda name: rms(f"{name}_norm", c.rms_norm_eps, groups=1),
        slots=(None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
    ).model()


def apertus(c: Config) -> Model:
    """Norms of q and k, a dense feed-forward with a learned activation, other names of norms."""

    def ffn(i: int) -> Part:
        weights = {
            "up": Source(f"{AT}.mlp.up_proj.weight"),
            "down": Source(f"{AT}.mlp.down_proj.weight"),
            "act.positive": Source(f"{AT}.mlp.act_fn.alpha_p"),
            "act.negative": Source(f"{AT}.mlp.act_fn.alpha_n"),
        }
        return Part({"kind": "dense", "hidden": c.intermediate_size, "act": {"kind": "xielu"}}, weights)

    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        qk=lambda name: rms(f"{name}_norm", c.rms_norm_eps),
        slots=("attention_layernorm", None, "feedforward_layernorm", None),
        ffn=ffn,
    ).model()


def nanochat(c: Config) -> Model:
    """No gains anywhere; q and k are normed after they turn, backwards."""
    bare = partial(rms, eps=c.rms_norm_eps, gain=False)
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        norm=bare,
        qk=bare,
        ffn=lambda i: dense(f"{AT}.mlp", c.intermediate_size, c.hidden_act, bias=False),
        options=lambda i: {"qk_norm_at": "position"},
        position={**rope(c, c.get("head_dim", c.hidden_size // c.num_attention_heads)), "backwards": True},
        embedding=Part({"norm": bare("").data}),
        readout=capped(c),
    ).model()


def capped(c: Config, key: str = "final_logit_softcapping") -> Part:
    """Bounded logits."""
    cap = c.get(key)
    return Part({} if cap is None else {"soft_cap": float(cap)})


def hunyuan(c: Config) -> Model:
    """q and k are normed, with gains, after they turn."""
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        qk=lambda name: rms(
            f"{name.rpartition('.')[0]}.{'query' if name.endswith('q') else 'key'}_layernorm", c.rms_norm_eps
        ),
        options=lambda i: {"qk_norm_at": "position"},
    ).model()


def bitnet(c: Config) -> Model:
    """Norms before the output projections of attention and feed-forward."""

    def ffn(i: int) -> Part:
        inner = rms(f"{AT}.mlp.ffn_sub_norm", c.rms_norm_eps)
        part = gated(f"{AT}.mlp", c.intermediate_size, c.hidden_act)
        weights = {**part.weights, "inner_norm.gain": inner.weights["gain"]}
        return Part({**part.data, "inner_norm": inner.data}, weights)

    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        ffn=ffn,
        options=lambda i: {"inner_norm": rms(f"{AT}.self_attn.attn_sub_norm", c.rms_norm_eps, groups=1)},
    ).model()


def phi3(c: Config) -> Model:
    """q, k, v in one matrix, gate and up in another."""
    from evo.interop.attention import fused

    head_dim = c.get("head_dim", c.hidden_size // c.num_attention_heads)
    queries, keys = c.num_attention_heads * head_dim, c.num_key_value_heads * head_dim
    weights = fused(f"{AT}.self_attn.qkv_proj", {"q": queries, "k": keys, "v": keys})
    weights["o"] = Source(f"{AT}.self_attn.o_proj.weight")
    return Llama(c, weights=weights, ffn=lambda i: gated_fused(f"{AT}.mlp", c.intermediate_size, c.hidden_act)).model()


def glm(c: Config) -> Model:
    """Neighbouring pairs turn, in half of each head."""
    return Llama(
        c,
        biased="qkv" if c.get("attention_bias", False) else "",
        pairs="neighbours",
        ffn=lambda i: gated_fused(f"{AT}.mlp", c.intermediate_size, c.hidden_act),
    ).model()


def glm4(c: Config) -> Model:
    """GLM's rotation, and norms before and behind each branch."""
    return Llama(
        c,
        biased="qkv" if c.get("attention_bias", False) else "",
        pairs="neighbours",
        slots=("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"),
        ffn=lambda i: gated_fused(f"{AT}.mlp", c.intermediate_size, c.hidden_act),
    ).model()


def ernie4_5(c: Config) -> Model:
    """One key says whether there are biases anywhere."""
    return helium(c, key="use_bias")


def helium(c: Config, key: str = "attention_bias") -> Model:
    """Neighbouring pairs turn. key: what says whether projections have a bias."""
    bias = c.get("use_bias", c.get("mlp_bias", False)) or False
    return Llama(
        c,
        biased="qkvo" if c.get(key, False) else "",
        pairs="neighbours",
        ffn=lambda i: gated(f"{AT}.mlp", c.intermediate_size, c.hidden_act, bias=bias),
    ).model()
