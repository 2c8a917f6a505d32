"""Layouts with an attention or ends of their own: differential, gated, with sinks, relative."""

import math
from functools import partial

from evo.interop.assemble import Model, Sub
from evo.interop.attention import NO_POSITION, attention, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.experts import experts
from evo.interop.families.experts import MLP, count_of, is_sparse, shared_of, top_of
from evo.interop.families.llama import AT, Llama, position_of, window_of
from evo.interop.parts import Data, Part, Source, dense, gated, gated_fused, layer, linear, rms, under


def diffllama(c: Config) -> Model:
    """Differential heads, whose share begins with the layer's number."""
    own = projections(f"{AT}.self_attn", biased="qkvo" if c.get("attention_bias", False) else "")
    own |= {f"lambda_{k}": Source(f"{AT}.self_attn.lambda_{k}") for k in ("q1", "k1", "q2", "k2")}
    inner = rms("", c.rms_norm_eps, gain=False)
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        weights=own,
        options=lambda i: {"differ": 0.8 - 0.6 * math.exp(-0.3 * i), "inner_norm": inner},
    ).model()


def modernbert(c: Config) -> Model:
    """No norm before the first attention; a transform before the readout."""
    norm = partial(layer, eps=c.norm_eps, bias=c.norm_bias)
    layers = []
    head_dim = c.hidden_size // c.num_attention_heads
    for i in range(c.num_hidden_layers):
        at = "model.layers.{i}"
        biased = "qkvo" if c.attention_bias else ""
        mixer = attention(
            c.num_attention_heads,
            head_dim=head_dim,
            width=c.hidden_size,
            bias=bool(biased),
            window=window_of(c, i),
            position=position_of(c, i, head_dim),
            weights=projections(f"{at}.attn", ("q_proj", "k_proj", "v_proj", "Wo"), biased=biased),
        )
        ffn = gated_fused(f"{at}.mlp", c.intermediate_size, c.hidden_activation, fused="Wi", down="Wo")
        first = None if i == 0 else norm(f"{at}.attn_norm")
        layers.append([Sub(mixer, pre=first), Sub(ffn, pre=norm(f"{at}.mlp_norm"))])
    start, head = norm("model.embeddings.norm"), norm("lm_head.norm")
    transform = {"act": c.classifier_activation, "bias": c.classifier_bias, "norm": head.data}
    weights = {"transform": Source("lm_head.dense.weight"), **under("norm", head.weights)}
    if c.classifier_bias:
        weights["transform_bias"] = Source("lm_head.dense.bias")
    if c.decoder_bias:
        weights["bias"] = Source("decoder.bias")
    return decoder(
        c,
        layers,
        final=norm("model.final_norm"),
        position=rope(c, head_dim, c.rope_parameters["full_attention"]),
        tokens="model.embeddings.tok_embeddings.weight",
        head="decoder.weight",
        embedding=Part({"norm": start.data}, under("norm", start.weights)),
        readout=Part({"transform": transform, **({"bias": True} if c.decoder_bias else {})}, weights),
    )


def ctrl(c: Config) -> Model:
    """Sinusoids whose sines come first, a scaled embedding, a bias of the logits."""
    width, at = c.n_embd, "transformer.h.{i}"
    names = ("Wq", "Wk", "Wv", "dense")
    weights = projections(f"{at}.multi_head_attention", names, biased="qkvo")
    mixer = attention(c.n_head, head_dim=width // c.n_head, width=width, bias=True, weights=weights)
    ffn = dense(f"{at}.ffn", c.dff, "relu", up="0", down="2")
    one, other = (layer(f"{at}.{name}", 1e-6) for name in ("layernorm1", "layernorm2"))
    return decoder(
        c,
        [[Sub(mixer, pre=one), Sub(ffn, pre=other)]] * c.n_layer,
        final=layer("transformer.layernorm", c.layer_norm_epsilon),
        position={"kind": "sinusoid", "layout": "halves"},
        tokens="transformer.w.weight",
        width=width,
        context=c.n_positions,
        embedding=Part({"scale": width**0.5}),
        readout=Part({"bias": True}, {"bias": Source("lm_head.bias")}),
    )


XLNET_CONTEXT = 512
"""Tokens that XLNet was trained on; its configurations say none."""


def xlnet(c: Config) -> Model:
    """Transformer-XL's scores and post-norms. Only `attn_type: uni` is a causal model: of `bi`, each token's logits
    depend on later ones, unless permutations are handed to it with the text."""
    said = {"attn_type": c.get("attn_type", "bi"), "bi_data": c.get("bi_data"), "same_length": c.get("same_length")}
    for key, value in said.items():
        if value not in ("uni", None, False):
            raise refuse(c, f"`{key}: {value}`, with which it is no causal model of one text")
    if c.get("clamp_len", -1) > 0:
        raise refuse(c, "distances that are clamped (`clamp_len`)")
    c = c.called(hidden_size="d_model", num_attention_heads="n_head")
    at, width = "transformer.layer.{i}.rel_attn", c.hidden_size
    turned = {name: Source(f"{at}.{name}", lambda tensor: tensor.flatten(1).T) for name in "qkvr"}
    flat = {
        name: Source(f"{at}.r_{theirs}_bias", lambda tensor: tensor.flatten())
        for name, theirs in (("u", "w"), ("v", "r"))
    }
    position = {"r": turned.pop("r"), **flat}
    weights = {**turned, "o": Source(f"{at}.o", lambda tensor: tensor.flatten(1)), **under("position", position)}
    heads = c.num_attention_heads
    mixer = attention(heads, head_dim=width // heads, width=width, weights=weights)
    feed = "transformer.layer.{i}.ff"
    ffn = dense(feed, c.d_inner, c.get("ff_activation", "gelu"), up="layer_1", down="layer_2")
    norms = [layer(f"{name}.layer_norm", c.layer_norm_eps) for name in (at, feed)]
    return decoder(
        c,
        [[Sub(mixer, after=norms[0]), Sub(ffn, after=norms[1])]] * c.n_layer,
        final=None,
        position={"kind": "xl"},
        tokens="transformer.word_embedding.weight",
        head="lm_loss.weight",
        context=XLNET_CONTEXT,
        readout=Part({"bias": True}, {"bias": Source("lm_loss.bias")}),
    )


def laguna(c: Config) -> Model:
    """Heads gated by softplus, sigmoid scores of bounded logits with a bias of the choice."""
    per_head = c.gating is True or c.gating == "per-head"
    router: Data = {"score": "sigmoid", "choice_bias": True}
    if c.get("moe_router_logit_softcapping", 0.0):
        router["soft_cap"] = float(c.moe_router_logit_softcapping)
    if c.get("moe_routed_scaling_factor", 1.0) != 1.0:
        router["scale"] = float(c.moe_routed_scaling_factor)
    own = {**projections(f"{AT}.self_attn"), "gate": Source(f"{AT}.self_attn.g_proj.weight")}

    def ffn(i: int) -> Part:
        if not is_sparse(c, i):
            return gated(MLP, c.intermediate_size, c.hidden_act)
        return experts(
            MLP,
            count=count_of(c),
            top=top_of(c),
            hidden=c.moe_intermediate_size,
            act=c.hidden_act,
            router=router,
            shared=shared_of(c, c.shared_expert_intermediate_size),
        )

    options: Data = {"gate": "head" if per_head else "channel", "gate_act": "softplus"}
    said = c.rope_parameters
    first = said.get("full_attention", said) if isinstance(said, dict) else said
    return Llama(
        c,
        qk=lambda name: rms(f"{name}_norm", c.rms_norm_eps),
        weights=own,
        ffn=ffn,
        options=lambda i: options,
        position=rope(c, c.head_dim, first),
    ).model()


def flint(c: Config) -> Model:
    """Sinks in every head, and a shared expert that nothing gates."""

    def ffn(i: int) -> Part:
        if not is_sparse(c, i):
            return gated(MLP, c.intermediate_size, c.hidden_act)
        return experts(
            MLP,
            count=count_of(c),
            top=top_of(c),
            hidden=c.moe_intermediate_size,
            act=c.hidden_act,
            router={"score": "sigmoid", "renormalise": bool(c.norm_topk_prob)},
            shared=shared_of(c, c.shared_expert_intermediate_size, "shared_expert"),
        )

    own = {**projections(f"{AT}.self_attn"), "sink_logit": Source(f"{AT}.self_attn.sinks")}
    return Llama(
        c,
        qk=lambda name: rms(f"{name}_norm", c.rms_norm_eps),
        weights=own,
        ffn=ffn,
        options=lambda i: {"sink_logit": True, **({"position": NO_POSITION} if window_of(c, i) is None else {})},
    ).model()


def moshi(c: Config) -> Model:
    """The text half by itself; one row of the table more than there are symbols."""
    hidden = c.ffn_dim // 2
    layers = []
    for _ in range(c.num_hidden_layers):
        names = tuple(f"{k}_proj.linear" for k in "qkvo")
        mixer = attention(
            c.num_attention_heads,
            kv_heads=c.num_key_value_heads,
            head_dim=c.head_dim,
            width=c.hidden_size,
            weights=projections(f"{AT}.self_attn", names),  # type: ignore[arg-type]
        )
        ffn = gated_fused(MLP, hidden, c.hidden_act, fused="fc1", down="fc2")
        one, other = (rms(f"{AT}.{name}", c.rms_norm_eps) for name in ("input_layernorm", "post_attention_layernorm"))
        layers.append([Sub(mixer, pre=one), Sub(ffn, pre=other)])
    model = decoder(c, layers, final=rms("model.norm", c.rms_norm_eps), position=rope(c, c.head_dim))
    table = Source("model.embed_tokens.weight", lambda tensor: tensor[: c.vocab_size])
    return Model(model.organism, {**model.weights, "embedding.weight": table})


def doge(c: Config) -> Model:
    """Keys that are worth more for their values; streams with gains."""
    if c.get("is_moe", False):
        raise refuse(c, "experts that are single rows, chosen by pairs of keys across tokens")
    at, bias = f"{AT}.self_attn", bool(c.get("attention_bias", False))
    biased = "qkvo" if bias else ""
    weights = projections(at, biased=biased) | {"select.rate": Source(f"{at}.A")}
    weights |= linear("select.worth", f"{at}.dt_proj", bias=bias)
    whole = Llama(
        c,
        biased=biased,
        qk=lambda name: rms(f"{name}_norm", c.rms_norm_eps),
        weights=weights,
        options=lambda i: {"select": {"kind": "values", "top": c.keep_window_size, **({"bias": True} if bias else {})}},
    )
    ffn = gated(f"{AT}.mlp", c.intermediate_size, c.hidden_act, bias=c.get("mlp_bias", False))
    one, other = (rms(f"{AT}.{name}_layernorm", c.rms_norm_eps) for name in ("input", "post_attention"))
    first, second = (Source(f"{AT}.{name}_residual") for name in ("input", "post_attention"))
    kept: Data = {"kind": "learned", "per": "channel"}
    layers = [
        [Sub(whole.mixer(i), pre=one, skip=kept, skip_source=first), Sub(ffn, pre=other, skip=kept, skip_source=second)]
        for i in range(c.num_hidden_layers)
    ]
    return decoder(c, layers, final=rms("model.norm", c.rms_norm_eps), position=rope(c, whole.width_of_head))
