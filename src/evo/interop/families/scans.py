"""Scans and recurrences, alone and beside attention: Mamba, Mamba-2, RWKV-4, gated DeltaNet."""

from functools import partial
from typing import Any

from evo.interop.assemble import Layer, Model, Sub
from evo.interop.attention import attention, projections, rope
from evo.interop.config import Config
from evo.interop.decoder import decoder
from evo.interop.experts import experts
from evo.interop.families.experts import MLP, count_of, shared_of, top_of
from evo.interop.families.granite import granite_experts
from evo.interop.families.llama import AT
from evo.interop.parts import Data, Part, Source, gated, layer, rms, rows, split_by_head, under

NONE: Data = {"kind": "none"}


def selective(at: str, width: int, inner: int, state: int, rank: int, conv: int, **options: bool) -> Part:
    """A selective scan. options: conv_bias, bias."""
    weights = {
        "x": Source(f"{at}.in_proj.weight", rows(0, inner)),
        "gate": Source(f"{at}.in_proj.weight", rows(inner, inner)),
        "step_down": Source(f"{at}.x_proj.weight", rows(0, rank)),
        "b": Source(f"{at}.x_proj.weight", rows(rank, state)),
        "c": Source(f"{at}.x_proj.weight", rows(rank + state, state)),
        "step_up": Source(f"{at}.dt_proj.weight"),
        "step_bias": Source(f"{at}.dt_proj.bias"),
        "decay_rate": Source(f"{at}.A_log"),
        "skip": Source(f"{at}.D"),
        "taps": Source(f"{at}.conv1d.weight"),
        "o": Source(f"{at}.out_proj.weight"),
    }
    data: Data = {"kind": "selective_scan", "inner": inner, "state": state, "rank": rank, "conv": conv}
    if options["conv_bias"]:
        weights["taps_bias"] = Source(f"{at}.conv1d.bias")
    else:
        data["conv_bias"] = False
    if options["bias"]:
        data["bias"] = True
        weights |= {
            "x_bias": Source(f"{at}.in_proj.bias", rows(0, inner)),
            "gate_bias": Source(f"{at}.in_proj.bias", rows(inner, inner)),
            "o_bias": Source(f"{at}.out_proj.bias"),
        }
    del width
    return Part(data, weights)


def mamba(c: Config, **inside: Data) -> Model:
    """A scan a layer and no feed-forward. inside: what else a scan has."""
    at, rank = "backbone.layers.{i}", c.get("time_step_rank", "auto")
    part = selective(
        f"{at}.mixer",
        c.hidden_size,
        c.get("intermediate_size") or c.expand * c.hidden_size,
        c.state_size,
        -(-c.hidden_size // 16) if rank == "auto" else int(rank),
        c.conv_kernel,
        conv_bias=c.use_conv_bias,
        bias=c.use_bias,
    )
    part = Part({**part.data, **inside}, part.weights)
    layers = [[Sub(part, pre=rms(f"{at}.norm", c.layer_norm_epsilon))] for _ in range(c.num_hidden_layers)]
    return decoder(
        c,
        layers,
        final=rms("backbone.norm_f", c.layer_norm_epsilon),
        position=NONE,
        tokens="backbone.embeddings.weight",
        context=c.get("max_position_embeddings", 2048),
    )


def falcon_mamba(c: Config) -> Model:
    """The same with norms without gains inside."""
    return mamba(c, inner_norm={"kind": "rms", "gain": False, "eps": c.mixer_rms_eps})


def ssd(
    at: str,
    heads: int,
    dim: int,
    groups: int,
    state: int,
    conv: int,
    eps: float | None,
    limits: list[float],
    *,
    conv_bias: bool = True,
    gate_at: str = "before",
) -> Part:
    """Mamba-2's recurrence: z, x, B, C and the step in one matrix. eps: of the norm of its output, if it has one."""
    inner, keys = heads * dim, groups * state
    into, taps = f"{at}.in_proj.weight", f"{at}.conv1d"
    weights = {
        "gate": Source(into, rows(0, inner)),
        "v": Source(into, rows(inner, inner)),
        "k": Source(into, rows(2 * inner, keys)),
        "q": Source(into, rows(2 * inner + keys, keys)),
        "decay": Source(into, rows(2 * inner + 2 * keys, heads)),
        "decay_bias": Source(f"{at}.dt_bias"),
        "decay_rate": Source(f"{at}.A_log"),
        "skip": Source(f"{at}.D"),
        "o": Source(f"{at}.out_proj.weight"),
    }
    if eps is not None:
        weights["head_norm.gain"] = Source(f"{at}.norm.weight")
    for ours, start, size in (("v", 0, inner), ("k", inner, keys), ("q", inner + keys, keys)):
        weights[f"{ours}_taps"] = Source(f"{taps}.weight", rows(start, size))
        if conv_bias:
            weights[f"{ours}_taps_bias"] = Source(f"{taps}.bias", rows(start, size))
    least, most = limits
    steps = {**({"least": least} if least else {}), **({"most": most} if most != float("inf") else {})}
    data = {
        "kind": "recurrence",
        "heads": heads,
        "key_dim": state,
        "value_dim": dim,
        "decay": {"kind": "token", **steps} if steps else "token",
        "update": "outer",
        "feature": "identity",
        "conv": conv,
        "gate": "silu",
        "normalizer": "none" if eps is None else {"kind": "rms", "eps": eps, "groups": groups},
        **({"key_heads": groups} if groups != heads else {}),
        "write": "step",
        "skip": True,
        **({"conv_bias": True} if conv_bias else {}),
        "scale": 1.0,
        **({"gate_at": gate_at} if eps is not None else {}),
    }
    return Part(data, weights)


def limits_of(c: Config) -> list[float]:
    """The least and the largest step; infinity is written as a mapping."""
    said = c.get("time_step_limit", (0.0, float("inf")))
    return [float("inf") if isinstance(item, dict) else float(item) for item in said]


def mamba2(c: Config) -> Model:
    """A recurrence a layer and no feed-forward."""
    at = "backbone.layers.{i}"
    limits = limits_of(c)
    shape = (c.num_heads, c.head_dim, c.n_groups, c.state_size, c.conv_kernel)
    part = ssd(f"{at}.mixer", *shape, c.layer_norm_epsilon, limits)
    layers = [[Sub(part, pre=rms(f"{at}.norm", c.layer_norm_epsilon))] for _ in range(c.num_hidden_layers)]
    return decoder(
        c,
        layers,
        final=rms("backbone.norm_f", c.layer_norm_epsilon),
        position=NONE,
        tokens="backbone.embeddings.weight",
        context=c.get("max_position_embeddings", 2048),
    )


def rwkv(c: Config) -> Model:
    """RWKV-4: token shifts, and a feed-forward with one of its own."""
    width, eps, inner = c.hidden_size, c.layer_norm_epsilon, c.attention_hidden_size
    layers: list[Layer] = []
    for _ in range(c.num_hidden_layers):
        at = "rwkv.blocks.{i}"
        names = {"r": "receptance", "k": "key", "v": "value"}
        weights = {ours: Source(f"{at}.attention.{theirs}.weight") for ours, theirs in names.items()}
        weights |= {f"{ours}_mix": Source(f"{at}.attention.time_mix_{theirs}") for ours, theirs in names.items()}
        weights |= {
            "decay_rate": Source(f"{at}.attention.time_decay"),
            "bonus": Source(f"{at}.attention.time_first"),
            "o": Source(f"{at}.attention.output.weight"),
        }
        mixer = Part({"kind": "wkv", **({"inner": inner} if inner != width else {})}, weights)
        where = f"{at}.feed_forward"
        inside = {name: Source(f"{where}.{names[name]}.weight") for name in "kvr"}
        inside |= {f"{name}_mix": Source(f"{where}.time_mix_{names[name]}") for name in "kr"}
        ffn = Part({"kind": "channel_mix", "hidden": c.intermediate_size}, inside)
        layers.append([Sub(mixer, pre=layer(f"{at}.ln1", eps)), Sub(ffn, pre=layer(f"{at}.ln2", eps))])
    first = layer("rwkv.blocks.0.pre_ln", eps)
    return decoder(
        c,
        layers,
        final=layer("rwkv.ln_out", eps),
        position=NONE,
        tokens="rwkv.embeddings.weight",
        head="head.weight",
        context=c.context_length,
        embedding=Part({"norm": first.data}, under("norm", first.weights)),
    )


def jamba(c: Config) -> Model:
    """Scans, attention now and then, experts in every other layer."""
    width, eps = c.hidden_size, c.rms_norm_eps
    layers: list[Layer] = []
    for i in range(c.num_hidden_layers):
        if i % c.attn_layer_period == c.attn_layer_offset:
            mixer = _attention(c)
        else:
            rank = -(-width // 16) if c.mamba_dt_rank == "auto" else int(c.mamba_dt_rank)
            inner = c.mamba_expand * width
            shape = (width, inner, c.mamba_d_state, rank, c.mamba_d_conv)
            part = selective(f"{AT}.mamba", *shape, conv_bias=c.mamba_conv_bias, bias=c.mamba_proj_bias)
            norms = {
                f"{a}_norm.gain": f"{AT}.mamba.{b}_layernorm.weight"
                for a, b in (("step", "dt"), ("b", "b"), ("c", "c"))
            }
            weights = {**part.weights, **{ours: Source(theirs) for ours, theirs in norms.items()}}
            mixer = Part({**part.data, "inner_norm": {"kind": "rms", "eps": eps}}, weights)
        at = f"{AT}.feed_forward"
        if c.num_experts > 1 and i % c.expert_layer_period == c.expert_layer_offset:
            ffn = experts(
                at,
                count=c.num_experts,
                top=c.num_experts_per_tok,
                hidden=c.intermediate_size,
                act=c.hidden_act,
                router={"renormalise": False},
                gate="router.weight",
            )
        else:
            ffn = gated(at, c.intermediate_size, c.hidden_act)
        one, other = (rms(f"{AT}.{name}", eps) for name in ("input_layernorm", "pre_ff_layernorm"))
        layers.append([Sub(mixer, pre=one), Sub(ffn, pre=other)])
    return decoder(c, layers, final=rms("model.final_layernorm", eps), position=NONE)


def _attention(c: Config, head_dim: int | None = None) -> Part:
    return attention(
        c.num_attention_heads,
        kv_heads=c.num_key_value_heads,
        head_dim=head_dim or c.hidden_size // c.num_attention_heads,
        width=c.hidden_size,
        weights=projections(f"{AT}.self_attn"),
    )


def bamba(c: Config) -> Model:
    """Mamba-2 layers, attention at some, a feed-forward behind each."""
    head_dim = c.hidden_size // c.num_attention_heads
    shape = (c.mamba_n_heads, c.mamba_d_head, c.mamba_n_groups, c.mamba_d_state, c.mamba_d_conv)
    scan = ssd(f"{AT}.mamba", *shape, c.rms_norm_eps, limits_of(c))
    chosen = c.get("attn_layer_indices") or []
    ffn = gated(f"{AT}.feed_forward", c.intermediate_size, c.hidden_act, bias=c.mlp_bias)
    one, other = (rms(f"{AT}.{name}", c.rms_norm_eps) for name in ("input_layernorm", "pre_ff_layernorm"))
    mixers = [_attention(c) if i in chosen else scan for i in range(c.num_hidden_layers)]
    layers: list[Layer] = [[Sub(mixer, pre=one), Sub(ffn, pre=other)] for mixer in mixers]
    return decoder(c, layers, final=rms("model.final_layernorm", c.rms_norm_eps), position=rope(c, head_dim))


def delta(c: Config, *, is_fused: bool) -> Part:
    """Gated DeltaNet: value heads are a multiple of key heads, the gate behind a norm of each head."""
    at = f"{AT}.linear_attn"
    keys, values = c.linear_num_key_heads, c.linear_num_value_heads
    k_dim, v_dim = c.linear_key_head_dim, c.linear_value_head_dim
    all_keys, all_values, each = keys * k_dim, values * v_dim, values // keys * v_dim
    weights = {
        "o": Source(f"{at}.out_proj.weight"),
        "decay_bias": Source(f"{at}.dt_bias"),
        "decay_rate": Source(f"{at}.A_log"),
        "head_norm.gain": Source(f"{at}.norm.weight"),
    }
    if is_fused:
        for name, view in zip(("q", "k", "v", "gate"), split_by_head(keys, k_dim, k_dim, each, each), strict=True):
            weights[name] = Source(f"{at}.in_proj_qkvz.weight", view)
        share = values // keys
        for name, view in zip(("beta", "decay"), split_by_head(keys, share, share), strict=True):
            weights[name] = Source(f"{at}.in_proj_ba.weight", view)
    else:
        weights |= {"gate": Source(f"{at}.in_proj_z.weight"), "beta": Source(f"{at}.in_proj_b.weight")}
        weights["decay"] = Source(f"{at}.in_proj_a.weight")
    for name, start, size in (("q", 0, all_keys), ("k", all_keys, all_keys), ("v", 2 * all_keys, all_values)):
        weights[f"{name}_taps"] = Source(f"{at}.conv1d.weight", rows(start, size))
        if not is_fused:
            weights[name] = Source(f"{at}.in_proj_qkv.weight", rows(start, size))
    data: Data = {
        "kind": "recurrence",
        "heads": values,
        "key_dim": k_dim,
        "value_dim": v_dim,
        "conv": c.linear_conv_kernel_dim,
        "normalizer": {"kind": "rms", "eps": c.rms_norm_eps},
        **({"key_heads": keys} if keys != values else {}),
    }
    return Part(data, weights)


def qwen3_next(c: Config) -> Model:
    """The maps of the recurrence lie in one matrix."""
    return qwen3_5(c, is_fused=True)


def qwen3_5(c: Config, *, is_fused: bool = False) -> Model:
    """Gated DeltaNet in three layers of four, attention gated by channel in the fourth, perhaps experts."""
    normed = partial(rms, eps=c.rms_norm_eps, one_plus=True)
    mixers = {"full_attention": gated_by_channel(c), "linear_attention": delta(c, is_fused=is_fused)}
    ffn = qwen_experts(c) if c.get("num_experts") else gated(MLP, c.intermediate_size, c.hidden_act)
    one, other = (normed(f"{AT}.{name}") for name in ("input_layernorm", "post_attention_layernorm"))
    layers: list[Layer] = [[Sub(mixers[kind], pre=one), Sub(ffn, pre=other)] for kind in c.layer_types]
    return decoder(c, layers, final=normed("model.norm"), position=rope(c, c.head_dim))


def gated_by_channel(c: Config, **options: Any) -> Part:
    """Attention whose gates lie beside its queries, head by head."""
    head_dim, heads, at = c.head_dim, c.num_attention_heads, f"{AT}.self_attn"
    weights = projections(at)
    for name, view in zip(("q", "gate"), split_by_head(heads, head_dim, head_dim), strict=True):
        weights[name] = Source(f"{at}.q_proj.weight", view)
    return attention(
        heads,
        kv_heads=c.num_key_value_heads,
        head_dim=head_dim,
        width=c.hidden_size,
        norms=tuple(rms(f"{at}.{k}_norm", c.rms_norm_eps, one_plus=True) for k in "qk"),
        gate="channel",
        weights=weights,
        **options,
    )


def qwen_experts(c: Config) -> Part:
    """Experts beside a shared one with a gate."""
    return experts(
        MLP,
        count=count_of(c),
        top=top_of(c),
        hidden=c.moe_intermediate_size,
        act=c.hidden_act,
        router={"renormalise": bool(c.get("norm_topk_prob", True))},
        shared=shared_of(c, c.shared_expert_intermediate_size, "shared_expert"),
        shared_gate="shared_expert_gate.weight",
    )


def granite_hybrid(c: Config) -> Model:
    """Mamba-2 layers, attention at some, Granite's experts and multipliers."""
    head_dim, gain = c.hidden_size // c.num_attention_heads, float(c.residual_multiplier)
    shape = (c.mamba_n_heads, c.mamba_d_head, c.mamba_n_groups, c.mamba_d_state, c.mamba_d_conv)
    scan = ssd(f"{AT}.mamba", *shape, c.rms_norm_eps, limits_of(c))
    full = _attention(c)
    full = Part({**full.data, "scale": float(c.attention_multiplier)}, full.weights)
    ffn = granite_experts(c)
    one, other = (rms(f"{AT}.{name}", c.rms_norm_eps) for name in ("input_layernorm", "post_attention_layernorm"))
    mixers = [full if kind.endswith("attention") and not kind.startswith("linear") else scan for kind in c.layer_types]
    layers: list[Layer] = [[Sub(mixer, pre=one, gain=gain), Sub(ffn, pre=other, gain=gain)] for mixer in mixers]
    return decoder(
        c,
        layers,
        final=rms("model.norm", c.rms_norm_eps),
        position=rope(c, head_dim) if c.get("position_embedding_type") == "rope" else NONE,
        embedding=Part({"scale": float(c.embedding_multiplier)}),
        readout=Part({"scale": 1.0 / float(c.logits_scaling)}),
    )
