"""Gemma: gains less one, a scaled embedding, gelu; later sandwich norms, caps, windows and norms of q and k."""

from functools import partial

from evo.interop.assemble import Model
from evo.interop.config import Config
from evo.interop.families.llama import AT, Llama, capped
from evo.interop.parts import Part, gated, rms


def gemma(c: Config) -> Model:
    """From the second version on sandwich norms, caps and windows; in the third norms of q and k."""
    one_plus = partial(rms, eps=c.rms_norm_eps, one_plus=True)
    is_first, act = c.type == "gemma", c.get("hidden_activation") or c.get("hidden_act")
    is_plain = c.type in ("gemma", "vaultgemma")
    pre = "post_attention_layernorm" if is_first else "pre_feedforward_layernorm"
    slots = ("input_layernorm", None, pre, None)
    if not is_plain:
        slots = ("input_layernorm", "post_attention_layernorm", pre, "post_feedforward_layernorm")
    cap = c.get("attn_logit_softcapping")
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        norm=one_plus,
        qk=(lambda name: one_plus(f"{name}_norm")) if c.type == "gemma3_text" else None,
        slots=slots,
        ffn=lambda i: gated(f"{AT}.mlp", c.intermediate_size, act),
        options=lambda i: {"soft_cap": cap},
        scale=None if is_first else float(c.query_pre_attn_scalar) ** -0.5,
        embedding=Part({"scale": c.hidden_size**0.5}),
        readout=capped(c),
    ).model()
