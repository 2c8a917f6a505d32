"""Hybrids with layouts of their own: OLMo Hybrid, Nemotron-H, Falcon-H1, MiniMax, Kimi Linear, Ling."""

from functools import partial

from evo.interop.assemble import Beside, Layer, Model, Sub
from evo.interop.attention import NO_POSITION, attention, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.experts import experts
from evo.interop.families.experts import MLP, biased, is_sparse, routed, shared_of
from evo.interop.families.gpt import by_head
from evo.interop.families.latent import latent
from evo.interop.families.llama import AT, scaled
from evo.interop.families.scans import limits_of, ssd
from evo.interop.parts import ACTS, Data, Part, Source, Weights, dense, gated, rms, rows, times, under

BIASES = ("attention_bias", "mlp_bias", "mamba_proj_bias", "use_bias")
"""Settings of biases that these have never been published with."""


def _require_no_bias(c: Config) -> None:
    for name in BIASES:
        if c.get(name, False):
            raise refuse(c, f"'{name}'")


def olmo_hybrid(c: Config) -> Model:
    """Gated DeltaNet, perhaps with negative eigenvalues, behind norms; OLMo 2's attention with its norms behind it."""
    _require_no_bias(c)
    normed = partial(rms, eps=c.rms_norm_eps)
    head_dim = c.hidden_size // c.num_attention_heads
    norms = tuple(rms(f"{AT}.self_attn.{name}_norm", c.rms_norm_eps, groups=1) for name in ("q", "k"))
    attend = attention(
        c.num_attention_heads,
        kv_heads=c.num_key_value_heads,
        head_dim=head_dim,
        width=c.hidden_size,
        norms=norms,
        weights=projections(f"{AT}.self_attn"),
    )
    recurrent, ffn = _delta(c, f"{AT}.linear_attn"), gated(f"{AT}.mlp", c.intermediate_size, c.hidden_act)

    def one(kind: str) -> Layer:
        after = normed(f"{AT}.post_attention_layernorm")
        if kind == "linear_attention":
            return [Sub(recurrent, pre=normed(f"{AT}.input_layernorm")), Sub(ffn, pre=after)]
        return [Sub(attend, out=after), Sub(ffn, out=normed(f"{AT}.post_feedforward_layernorm"))]

    layers = [one(kind) for kind in c.layer_types]
    return decoder(c, layers, final=normed("model.norm"), position=rope(c, head_dim))


def _delta(c: Config, theirs: str) -> Part:
    """Gated DeltaNet with a map for each of its parts, and an eps of its own."""
    heads, key_heads, conv = c.linear_num_value_heads, c.linear_num_key_heads, c.linear_conv_kernel_dim
    keys, values = key_heads * c.linear_key_head_dim, heads * c.linear_value_head_dim
    maps = {"q": "q", "k": "k", "v": "v", "o": "o", "gate": "g", "beta": "b", "decay": "a"}
    weights: Weights = {ours: Source(f"{theirs}.{name}_proj.weight") for ours, name in maps.items()}
    for name, start, size in (("q", 0, keys), ("k", keys, keys), ("v", 2 * keys, values)):
        weights[f"{name}_taps"] = Source(f"{theirs}.conv1d.weight", rows(start, size))
    weights |= {
        "decay_bias": Source(f"{theirs}.dt_bias"),
        "decay_rate": Source(f"{theirs}.A_log"),
        "head_norm.gain": Source(f"{theirs}.o_norm.weight"),
    }
    data: Data = {
        "kind": "recurrence",
        "heads": heads,
        "key_dim": c.linear_key_head_dim,
        "value_dim": c.linear_value_head_dim,
        "conv": conv,
        "normalizer": {"kind": "rms", "eps": 1e-5},
    }
    data |= {"key_heads": key_heads} if key_heads != heads else {}
    return Part({**data, **({"beta_range": 2.0} if c.linear_allow_neg_eigval else {})}, weights)


def nemotron_h(c: Config) -> Model:
    """Each layer is one block behind a norm: Mamba-2, attention without positions, a feed-forward, or experts."""
    _require_no_bias(c)
    mixer = f"{AT}.mixer"
    attend = attention(
        c.num_attention_heads,
        kv_heads=c.num_key_value_heads,
        head_dim=c.head_dim,
        width=c.hidden_size,
        weights=projections(mixer),
    )
    recurrent = ssd(
        mixer, c.mamba_num_heads, c.mamba_head_dim, c.n_groups, c.ssm_state_size, c.conv_kernel, c.layer_norm_epsilon,
        limits_of(c),
    )  # fmt: skip
    act = ACTS[c.mlp_hidden_act]

    def up_down(theirs: str, hidden: int) -> Part:
        return dense(theirs, hidden, act, bias=False, up="up_proj", down="down_proj")

    hidden = c.moe_intermediate_size
    stacks = {f"routed.{name}": Source(f"{mixer}.experts.{name}_proj") for name in ("up", "down")}
    many = experts(
        mixer,
        count=c.n_routed_experts,
        top=c.num_experts_per_tok,
        hidden=hidden,
        router=biased(c, renormalise=bool(c.norm_topk_prob)),
        weights=stacks,
        of={"kind": "dense", "hidden": hidden, "act": act},
        shared=up_down(f"{mixer}.shared_experts", c.moe_shared_expert_intermediate_size),
    )
    plain = up_down(mixer, c.intermediate_size)
    blocks = {"linear_attention": recurrent, "full_attention": attend, "mlp": plain, "moe": many}
    layers = [[Sub(blocks[kind], pre=rms(f"{AT}.norm", c.layer_norm_epsilon))] for kind in c.layers_block_type]
    return decoder(
        c,
        layers,
        final=rms("model.norm_f", c.layer_norm_epsilon),
        position=NO_POSITION,
        tokens="model.embeddings.weight",
    )


def falcon_h1(c: Config) -> Model:
    """Mamba-2 and attention side by side behind one norm; constants everywhere, which weights take in."""
    if c.mamba_proj_bias or c.projectors_bias or c.mlp_bias or c.attention_bias:
        raise refuse(c, "biases")
    at, head_dim = f"{AT}.self_attn", c.get("head_dim") or c.hidden_size // c.num_attention_heads
    into, key = float(c.attention_in_multiplier), float(c.key_multiplier)
    maps = times(projections(at), {"q": into, "k": into * key, "v": into, "o": float(c.attention_out_multiplier)})
    attend = attention(
        c.num_attention_heads, kv_heads=c.num_key_value_heads, head_dim=head_dim, width=c.hidden_size, weights=maps
    )
    feed = gated(f"{AT}.feed_forward", c.intermediate_size, c.hidden_act)
    feed = Part(feed.data, times(feed.weights, dict(zip(("gate", "down"), c.mlp_multipliers, strict=True))))
    normed = partial(rms, eps=c.rms_norm_eps)
    beside = Beside((Sub(_scaled_ssd(c)), Sub(attend)), pre=normed(f"{AT}.input_layernorm"))
    layer: Layer = [beside, Sub(feed, pre=normed(f"{AT}.pre_ff_layernorm"))]
    return decoder(
        c,
        [layer] * c.num_hidden_layers,
        final=normed("model.final_layernorm"),
        position=rope(c, head_dim),
        embedding=scaled(float(c.embedding_multiplier)),
        readout=scaled(float(c.lm_head_multiplier)),
    )


def _scaled_ssd(c: Config) -> Part:
    """Falcon-H1's recurrence, whose parts are each multiplied by a constant."""
    shape = (c.mamba_n_heads, c.mamba_d_head, c.mamba_n_groups, c.mamba_d_state, c.mamba_d_conv)
    part = ssd(
        f"{AT}.mamba",
        *shape,
        c.rms_norm_eps if c.mamba_rms_norm else None,
        limits_of(c),
        conv_bias=c.mamba_conv_bias,
        gate_at="after" if c.mamba_norm_before_gate else "before",
    )
    factors = {
        name: factor * c.ssm_in_multiplier
        for name, factor in zip(("gate", "v", "k", "q", "decay"), c.ssm_multipliers, strict=True)
    }
    return Part(part.data, times(part.weights, {**factors, "o": float(c.ssm_out_multiplier)}))


def minimax(c: Config) -> Model:
    """Lightning attention between layers of attention, experts; what branches add to is behind each norm.

    x <- a N(x) + b f(N(x)) is a norm behind the sublayer before: the first stands behind the embedding.
    """
    heads, head_dim = c.num_attention_heads, c.get("head_dim") or c.hidden_size // c.num_attention_heads
    normed = partial(rms, eps=c.rms_norm_eps)
    full = attention(
        heads,
        kv_heads=c.num_key_value_heads,
        head_dim=head_dim,
        width=c.hidden_size,
        window=c.get("sliding_window"),
        weights=projections(f"{AT}.self_attn"),
    )
    ffn = routed(c, c.intermediate_size, router={})
    layers: list[Layer] = []
    for i, kind in enumerate(c.layer_types):
        is_linear, is_last = kind == "linear_attention", i == c.num_hidden_layers - 1
        skip, gain = (c.linear_attn_alpha_factor, c.linear_attn_beta_factor) if is_linear else (
            c.full_attn_alpha_factor, c.full_attn_beta_factor
        )  # fmt: skip
        mixer = _lightning(c, i, head_dim) if is_linear else full
        after = None if is_last else normed(f"model.layers.{i + 1}.input_layernorm")
        layers.append(
            [
                Sub(mixer, after=normed(f"{AT}.post_attention_layernorm"), skip=float(skip), gain=float(gain)),
                Sub(ffn, after=after, skip=float(c.mlp_alpha_factor), gain=float(c.mlp_beta_factor)),
            ]
        )
    first = normed("model.layers.0.input_layernorm")
    return decoder(
        c,
        layers,
        final=normed("model.norm"),
        position=rope(c, head_dim),
        embedding=Part({"norm": first.data}, under("norm", first.weights)),
    )


def _lightning(c: Config, index: int, head_dim: int) -> Part:
    """Linear attention with a constant decay for each head, which falls with depth."""
    at, heads = f"{AT}.self_attn", c.num_attention_heads
    depth = 1 - index / (c.num_hidden_layers - 1 + 1e-5) + 1e-5
    parts = {ours: Source(f"{at}.qkv_proj.weight", by_head(heads, 3, k)) for k, ours in enumerate("qkv")}
    weights = {
        **parts,
        "gate": Source(f"{at}.output_gate.weight"),
        "o": Source(f"{at}.out_proj.weight"),
        "head_norm.gain": Source(f"{at}.norm.weight"),
    }
    data: Data = {
        "kind": "recurrence",
        "heads": heads,
        "key_dim": head_dim,
        "value_dim": head_dim,
        "decay": {"kind": "head", "rates": "alibi", "scale": depth},
        "update": "outer",
        "feature": "identity",
        "conv": 0,
        "act": c.hidden_act,
        "gate": "sigmoid",
        "normalizer": {"kind": "rms", "eps": 1e-6, "groups": 1},
        "scale": 1.0,
    }
    return Part(data, weights)


def ling(c: Config) -> Model:
    """Whole maps of decays and gates; latent attention turns, and has gates."""
    return kimi(c, is_ling=True)


def kimi(c: Config, *, is_ling: bool = False) -> Model:
    """Kimi delta attention in most layers, latent attention in the others, experts."""
    c = c.called(
        max_position_embeddings="model_max_length",
        norm_topk_prob="moe_renormalize",
        n_group="num_expert_group",
        num_local_experts="num_experts",
        num_experts_per_tok="num_experts_per_token",
        n_shared_experts="num_shared_experts",
    )
    hidden = c.moe_intermediate_size
    router = biased(c, renormalise=bool(c.norm_topk_prob))
    sparse = routed(c, hidden, router=router, shared=shared_of(c, hidden * c.n_shared_experts))
    plain = gated(MLP, c.intermediate_size, c.hidden_act)
    delta = _kimi_delta(c, c.linear_num_heads, c.linear_head_dim, whole=is_ling)
    blocks = {"linear_attention": delta, "full_attention": latent(c)}
    layers: list[Layer] = []
    for i, kind in enumerate(c.layer_types):
        one, other = (rms(f"{AT}.{name}", c.rms_norm_eps) for name in ("input_layernorm", "post_attention_layernorm"))
        layers.append([Sub(blocks[kind], pre=one), Sub(sparse if is_sparse(c, i) else plain, pre=other)])
    position = rope(c, c.qk_rope_head_dim, pairs="neighbours") if is_ling else NO_POSITION
    return decoder(c, layers, final=rms("model.norm", c.rms_norm_eps), position=position)


def _kimi_delta(c: Config, heads: int, head_dim: int, *, whole: bool) -> Part:
    """The delta rule with a decay of each key channel, both gates through narrow maps, or whole ones."""
    at = f"{AT}.self_attn"
    maps = {
        "q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "beta": "b_proj", "head_norm.gain": "o_norm",
    }  # fmt: skip
    decay: Data = {"kind": "channel", "form": "softplus"}
    if whole:
        maps |= {"gate": "g_proj", "decay": "forget_gate.f_proj"}
        decay["narrow"] = False
    else:
        maps |= {"gate_down": "g_a_proj", "gate_up": "g_b_proj"}
        maps |= {"decay_down": "forget_gate.f_a_proj", "decay_up": "forget_gate.f_b_proj"}
        decay["rank"] = head_dim
    if c.get("kda_safe_gate", False):
        decay |= {"form": "bounded", "bound": -float(c.kda_lower_bound)}
    weights = {ours: Source(f"{at}.{theirs}.weight") for ours, theirs in maps.items()}
    weights |= {
        "decay_bias": Source(f"{at}.forget_gate.dt_bias"),
        "decay_rate": Source(f"{at}.forget_gate.A_log"),
    }
    size = heads * head_dim
    weights |= {f"{name}_taps": Source(f"{at}.conv1d.weight", rows(k * size, size)) for k, name in enumerate("qkv")}
    data: Data = {
        "kind": "recurrence",
        "heads": heads,
        "key_dim": head_dim,
        "value_dim": head_dim,
        "decay": decay,
        "conv": c.linear_conv_kernel_dim,
        "gate": "sigmoid",
        **({} if whole else {"gate_rank": head_dim}),
        "normalizer": {"kind": "rms", "eps": c.rms_norm_eps},
    }
    return Part(data, weights)
