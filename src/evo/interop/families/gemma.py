"""Gemma: gains less one, a scaled embedding, gelu; later sandwich norms, caps, windows and norms of q and k."""

from dataclasses import dataclass
from functools import partial

from evo.interop.assemble import Model
from evo.interop.config import Config
from evo.interop.families.llama import AT, Llama, capped
from evo.interop.parts import Part, gated, rms


@dataclass(frozen=True)
class Settings:
    """What differs between them.

    slots: the norms before and behind attention and feed-forward. scaled: whether the configuration says the scale of
    the scores. normed: whether q and k are.
    """

    slots: tuple[str | None, str | None, str | None, str | None] = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )
    scaled: bool = True
    normed: bool = False


SETTINGS = {
    "gemma": Settings(("input_layernorm", None, "post_attention_layernorm", None), scaled=False),
    "gemma2": Settings(),
    "gemma3_text": Settings(normed=True),
    "vaultgemma": Settings(("input_layernorm", None, "pre_feedforward_layernorm", None)),
}


def gemma(c: Config) -> Model:
    """From the second version on sandwich norms, caps and windows; in the third norms of q and k."""
    s, act = SETTINGS[c.type], c.get("hidden_activation") or c.get("hidden_act")
    one_plus = partial(rms, eps=c.rms_norm_eps, one_plus=True)
    cap = c.get("attn_logit_softcapping")
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        norm=one_plus,
        qk=(lambda name: one_plus(f"{name}_norm")) if s.normed else None,
        slots=s.slots,
        ffn=lambda i: gated(f"{AT}.mlp", c.intermediate_size, act),
        options=lambda i: {"soft_cap": cap},
        scale=float(c.query_pre_attn_scalar) ** -0.5 if s.scaled else None,
        embedding=Part({"scale": c.hidden_size**0.5}),
        readout=capped(c),
    ).model()
