"""Hybrids with layouts of their own: OLMo Hybrid, and Nemotron-H, whose layers are single blocks."""

from evo.interop.assemble import Layer, Model, Sub
from evo.interop.attention import NO_POSITION, attention, projections, rope
from evo.interop.config import Config, refuse
from evo.interop.decoder import decoder
from evo.interop.experts import experts
from evo.interop.families.experts import biased
from evo.interop.families.llama import AT
from evo.interop.families.scans import limits_of, ssd
from evo.interop.parts import ACTS, Data, Part, Source, Weights, dense, gated, rms, rows

BIASES = ("attention_bias", "mlp_bias", "mamba_proj_bias", "use_bias")
"""Settings of biases that these have never been published with."""


def _require_no_bias(c: Config) -> None:
    for name in BIASES:
        if c.get(name, False):
            raise refuse(c, f"'{name}'")


def olmo_hybrid(c: Config) -> Model:
    """Gated DeltaNet, perhaps with negative eigenvalues, behind norms; OLMo 2's attention with its norms behind it."""
    _require_no_bias(c)
    normed = lambda name: rms(name, c.rms_norm_eps)  # noqa: E731
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
