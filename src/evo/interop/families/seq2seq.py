"""Decoders of encoder-decoder models, run by themselves: layer norms, biases, positions added to the embedding."""

from dataclasses import dataclass

from evo.interop.assemble import Model
from evo.interop.attention import attention, biases, projections
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.families.gpt import two
from evo.interop.parts import Data, Part, Source, Weights, dense, layer, under

NAMES = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class Settings:
    """What differs between them.

    post: whether norms stand behind. offset: rows of the table before the first position. first: the norm of the
    embedding. last: the final norm. biased: projections of attention with a bias. head: the untied readout. tied:
    whether the readout may be that of the embedding. eps: of the norms, whatever the configuration says. norm_first:
    whether the embedding is normed before its position is added.
    """

    post: bool = True
    offset: int = 2
    first: str | None = "layernorm_embedding"
    last: str | None = None
    biased: str = "qkvo"
    root: str = "model.decoder"
    head: str = "lm_head.weight"
    sinusoid: Data | None = None
    tied: bool = True
    eps: float | None = None
    norm_first: bool = False


BART = Settings()
PRE = Settings(post=False, first=None, last="layer_norm", offset=0)
SETTINGS = {
    "bart": BART,
    "mvp": BART,
    "plbart": BART,
    "trocr": Settings(head="output_projection.weight"),
    "blenderbot-small": Settings(offset=0, norm_first=True),
    "mbart": Settings(post=False, last="layer_norm"),
    "blenderbot": PRE,
    "pegasus": PRE,
    "whisper": Settings(post=False, first=None, last="layer_norm", offset=0, biased="qvo", head="proj_out.weight"),
    "bigbird_pegasus": Settings(
        post=False,
        first=None,
        last="layernorm_embedding",
        offset=0,
        head="lm_head.weight|model.shared.weight",
        tied=False,
    ),
    "marian": Settings(first=None, offset=0),
    "xglm": Settings(
        post=False,
        first=None,
        last="layer_norm",
        root="model",
        sinusoid={"kind": "sinusoid", "layout": "halves", "steps": "ends", "offset": 2},
    ),
    "biogpt": Settings(
        post=False, first=None, last="layer_norm", root="biogpt", head="output_projection.weight", eps=1e-5
    ),
    "opt": Settings(post=False, first=None, last="final_layer_norm"),
}


def seq2seq(c: Config) -> Model:
    """BART, Pegasus, Whisper and the like, and OPT, XGLM and BioGPT, which have their layout."""
    s = SETTINGS[c.type]
    c = c if s.tied else c.but({"tie_word_embeddings": False})
    biased = s.biased if c.get("use_bias", True) else ""
    width = c.get("d_model") or c.hidden_size
    heads = c.get("decoder_attention_heads") or c.get("attention_heads") or c.num_attention_heads
    hidden = c.get("decoder_ffn_dim") or c.get("ffn_dim") or c.intermediate_size
    count = c.get("decoder_layers") or c.get("num_layers") or c.num_hidden_layers
    act = c.get("activation_function") or c.hidden_act
    eps = s.eps or c.get("layer_norm_eps", 1e-5)
    layers = []
    for _ in range(count):
        at = f"{s.root}.layers.{{i}}"
        mixer = attention(
            heads,
            head_dim=width // heads,
            width=width,
            bias=biases(biased),
            weights=projections(f"{at}.self_attn", NAMES, biased=biased),
        )
        ffn = dense(at, hidden, act)
        norms = (layer(f"{at}.{name}", eps) for name in ("self_attn_layer_norm", "final_layer_norm"))
        layers.append(two(mixer, ffn, *norms, post=s.post))
    final = s.last and layer(f"{s.root}.{s.last}", eps)
    return decoder(
        c,
        layers,
        final=final or None,
        position=s.sinusoid or {"kind": "learned"},
        tokens=f"{s.root}.embed_tokens.weight",
        head=s.head,
        width=width,
        context=c.get("max_position_embeddings") or c.max_target_positions,
        embedding=_embedding(c, s, width, eps),
        tables=None if s.sinusoid else _table(s),
    )


def _table(s: Settings) -> Weights:
    return {"position": Source(f"{s.root}.embed_positions.weight", lambda tensor: tensor[s.offset :])}


def _embedding(c: Config, s: Settings, width: int, eps: float) -> Part:
    data: Data = {}
    weights: Weights = {}
    if c.get("scale_embedding", False):
        data["scale"] = width**0.5
    if s.first:
        norm = layer(f"{s.root}.{s.first}", eps)
        data["norm"] = norm.data
        if s.norm_first:
            data["norm_first"] = True
        weights |= under("norm", norm.weights)
    return Part(data, weights)
