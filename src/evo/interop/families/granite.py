"""Granite: multipliers of the embedding, of branches, scores and logits, with experts or without."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from evo.interop.assemble import Model
from evo.interop.attention import NO_POSITION, projections, rope
from evo.interop.config import Config
from evo.interop.experts import experts
from evo.interop.families.experts import count_of, top_of
from evo.interop.families.llama import AT, Llama, scaled
from evo.interop.parts import Data, Part, Source, Weights, gated


@dataclass(frozen=True)
class Windowed:
    """What types with windows have besides: options of attention by layer, and weights of it."""

    options: Callable[[int], Data] | None = None
    weights: Weights = field(default_factory=dict[str, Source])


PLAIN = Windowed()


def _windowed(c: Config) -> Windowed:
    return Windowed(partial(_sinks, c), {"sink_logit": Source(f"{AT}.self_attn.sinks")})


def _sinks(c: Config, index: int) -> Data:
    """A learned sink a head, and a base of the rotation for each layer."""
    theta = (c.get("layer_rope_theta") or [None] * (index + 1))[index]
    head_dim = c.get("head_dim") or c.hidden_size // c.num_attention_heads
    said = {**(c.get("rope_parameters") or {}), "rope_theta": theta}
    own = NO_POSITION if not theta else rope(c, head_dim, said)
    return {"sink_logit": True, "position": None if own == rope(c, head_dim) else own}


def granite(c: Config, windowed: Windowed = PLAIN) -> Model:
    """Multipliers of the embedding, of branches, scores and logits (muP)."""
    bias = c.get("mlp_bias", False)
    biased = "qkvo" if c.get("attention_bias", False) else ""
    return Llama(
        c,
        biased=biased,
        ffn=lambda i: gated(f"{AT}.mlp", c.intermediate_size, c.hidden_act, bias=bias),
        gain=float(c.residual_multiplier),
        scale=float(c.attention_multiplier),
        options=windowed.options,
        weights={**projections(f"{AT}.self_attn", biased=biased), **windowed.weights},
        embedding=scaled(float(c.embedding_multiplier)),
        readout=scaled(1.0 / float(c.logits_scaling)),
    ).model()


def granite_swa(c: Config) -> Model:
    """The same with sinks, windows, and a base of the rotation for each layer."""
    return granite(c, _windowed(c))


def granite_experts(c: Config) -> Part:
    """Granite's experts, perhaps with a shared feed-forward."""
    at, hidden = f"{AT}.block_sparse_moe", c.intermediate_size
    shared = None
    if c.get("shared_intermediate_size", 0):
        inner, where = c.shared_intermediate_size, f"{AT}.shared_mlp"
        shared = Part(
            {"kind": "gated", "hidden": inner},
            {
                "gate": Source(f"{where}.input_linear.weight", lambda tensor: tensor[:inner]),
                "up": Source(f"{where}.input_linear.weight", lambda tensor: tensor[inner:]),
                "down": Source(f"{where}.output_linear.weight"),
            },
        )
    return experts(
        at,
        count=count_of(c),
        top=top_of(c),
        hidden=hidden,
        act=c.hidden_act,
        router={},
        gate="router.weight",
        shared=shared,
    )


def granitemoe(c: Config, windowed: Windowed = PLAIN) -> Model:
    """Granite's multipliers; perhaps what windows bring."""
    part = granite_experts(c)
    letters = "qkvo" if c.get("attention_bias", False) else ""
    return Llama(
        c,
        biased=letters,
        ffn=lambda i: part,
        options=windowed.options,
        weights={**projections(f"{AT}.self_attn", biased=letters), **windowed.weights},
        gain=float(c.residual_multiplier),
        scale=float(c.attention_multiplier),
        embedding=scaled(float(c.embedding_multiplier)),
        readout=scaled(1.0 / float(c.logits_scaling)),
    ).model()


def granitemoe_swa(c: Config) -> Model:
    """The same with sinks, windows, and a base of the rotation for each layer."""
    return granitemoe(c, _windowed(c))
