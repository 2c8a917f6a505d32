"""Cohere: attention and feed-forward beside each other behind one norm, neighbouring pairs, scaled logits."""

from functools import partial

from evo.interop.assemble import Model
from evo.interop.attention import NO_POSITION
from evo.interop.config import Config
from evo.interop.families.llama import Llama, scaled, window_of
from evo.interop.parts import Data, Part, layer


def compass(c: Config) -> Model:
    """Halves turn, in the layers that have a rotation of their own."""
    return cohere(c, is_compass=True)


def cohere(c: Config, *, is_compass: bool = False) -> Model:
    """One norm for attention and feed-forward side by side; the second version turns in windows only."""
    norm = partial(layer, eps=c.layer_norm_eps, bias=False)

    def heads(name: str) -> Part:
        return norm(f"{name}_norm", gain="heads")

    def options(i: int) -> Data:
        is_said = is_compass or not c.get("layer_types")
        return {} if is_said or window_of(c, i) is not None else {"position": NO_POSITION}

    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        norm=norm,
        qk=heads if c.get("use_qk_norm", False) else None,
        slots=("input_layernorm", None, None, None),
        parallel=True,
        pairs="halves" if is_compass else "neighbours",
        options=options,
        readout=scaled(float(c.get("logit_scale", 1.0))),
    ).model()
