"""Cohere: attention and feed-forward beside each other behind one norm, neighbouring pairs, scaled logits."""

from evo.interop.assemble import Model
from evo.interop.attention import NO_POSITION
from evo.interop.config import Config
from evo.interop.families.llama import Llama, scaled, window_of
from evo.interop.parts import Data, layer


def cohere(c: Config) -> Model:
    """One norm for attention and feed-forward side by side; the second version turns in windows only."""
    norm = lambda name: layer(name, c.layer_norm_eps, bias=False)  # noqa: E731
    heads = lambda name: layer(f"{name}_norm", c.layer_norm_eps, bias=False, gain="heads")  # noqa: E731

    def options(i: int) -> Data:
        return {"position": NO_POSITION} if c.get("layer_types") and window_of(c, i) is None else {}

    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        norm=norm,
        qk=heads if c.get("use_qk_norm", False) else None,
        slots=("input_layernorm", None, None, None),
        parallel=True,
        pairs="neighbours",
        options=options,
        readout=scaled(float(c.logit_scale)),
    ).model()
