"""Llama's layout with experts in place of the feed-forward, by many routers."""

from dataclasses import dataclass
from typing import Any

from evo.interop.assemble import Model
from evo.interop.attention import NO_POSITION, projections, rope
from evo.interop.config import Config
from evo.interop.experts import experts, stacks
from evo.interop.families.llama import AT, Llama, scaled, window_of
from evo.interop.parts import Data, Part, Source, gated, rms

MLP = f"{AT}.mlp"


def is_sparse(c: Config, index: int) -> bool:
    """Whether a layer has experts, by the ways in which configurations say so."""
    types = c.get("mlp_layer_types")
    if types is not None:
        return types[index] == "sparse"
    if c.get("mlp_only_layers") is not None and index in c.mlp_only_layers:
        return False
    if c.get("moe_layer_start_index") is not None:
        inside = c.moe_layer_start_index <= index <= (c.moe_layer_end_index % c.num_hidden_layers)
        return inside and (index + 1) % c.get("moe_layer_interval", 1) == 0
    first = c.get("first_k_dense_replace", c.get("num_dense_layers", 0))
    return index >= first and (index + 1) % c.get("decoder_sparse_step", 1) == 0


def count_of(c: Config) -> int:
    """How many experts there are."""
    for key in ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"):
        if c.get(key) is not None:
            return int(c.get(key))
    return int(c.num_experts)


def top_of(c: Config) -> int:
    """How many a token meets."""
    return int(c.get("num_experts_per_tok") or c.get("moe_topk") or c.get("moe_k") or c.num_experts_per_token)


def shared_of(c: Config, hidden: int, name: str = "shared_experts", act: Any = None) -> Part | None:
    """The shared experts as one feed-forward."""
    if not hidden:
        return None
    return gated(f"{MLP}.{name}", hidden, act or c.hidden_act)


SOFTMAX: Data = {"renormalise": True}


def biased(c: Config, *, scale: float | None = None, renormalise: bool = True) -> Data:
    """Sigmoid scores, a bias of the choice, groups (DeepSeek-V3)."""
    groups, top = c.get("n_group") or 1, c.get("topk_group") or 1
    data: Data = {"score": "sigmoid", "choice_bias": True, "renormalise": renormalise}
    if renormalise:
        data["eps"] = 1e-20
    if groups > 1 and groups != top:
        data |= {"groups": groups, "top_groups": top}
    factor = float(c.get("routed_scaling_factor", 1.0) if scale is None else scale)
    return {**data, **({"scale": factor} if factor != 1.0 else {})}


def routed(c: Config, hidden: int, *, at: str = MLP, act: Any = None, **rest: Any) -> Part:
    """Experts of so many units, as many and as often as the configuration says."""
    return experts(at, count=count_of(c), top=top_of(c), hidden=hidden, act=act or c.hidden_act, **rest)


@dataclass(frozen=True)
class Softmax:
    """What differs between types whose router is a softmax.

    normed: whether q and k are; groups: of what, where it is not each head. slots: the norms before and behind
    attention and feed-forward. shared: whether there is a shared expert with a gate. biased: the key that says whether
    the maps named by `letters` have a bias, and what it is where it is not said.
    """

    normed: bool = False
    groups: int | None = None
    slots: tuple[str | None, str | None, str | None, str | None] = (
        "input_layernorm",
        None,
        "post_attention_layernorm",
        None,
    )
    shared: bool = False
    biased: tuple[str, bool] = ("attention_bias", False)
    letters: str = "qkvo"


SOFTMAX = {
    "mixtral": Softmax(),
    "qwen2_moe": Softmax(shared=True, biased=("qkv_bias", True), letters="qkv"),
    "qwen3_moe": Softmax(normed=True),
    "mellum": Softmax(normed=True),
    "olmoe": Softmax(normed=True, groups=1),
    "flex_olmo": Softmax(
        normed=True, groups=1, slots=(None, "post_attention_layernorm", None, "post_feedforward_layernorm")
    ),
}


def moe(c: Config) -> Model:
    """Mixtral, Qwen, OLMoE and those that are the same but for a setting."""
    s = SOFTMAX[c.type]
    hidden = c.get("moe_intermediate_size") or c.intermediate_size
    router: Data = {"renormalise": bool(c.get("norm_topk_prob", True))}
    shared = shared_of(c, c.shared_expert_intermediate_size, "shared_expert") if s.shared else None
    groups: Data = {} if s.groups is None else {"groups": s.groups}

    def ffn(i: int) -> Part:
        if not is_sparse(c, i):
            return gated(MLP, c.intermediate_size, c.hidden_act)
        return routed(
            c,
            hidden,
            router=router,
            shared=shared,
            shared_gate="shared_expert_gate.weight" if s.shared else None,
        )

    return Llama(
        c,
        biased=s.letters if c.get(*s.biased) else "",
        qk=(lambda name: rms(f"{name}_norm", c.rms_norm_eps, **groups)) if s.normed else None,
        slots=s.slots,
        ffn=ffn,
        options=lambda i: {"clip": c.get("clip_qkv")},
    ).model()


@dataclass(frozen=True)
class Sigmoid:
    """What differs between types whose router is a sigmoid with a bias of the choice.

    choice: the name of that bias. normed: whether q and k are, or the key that says so; groups: of what, where it is
    not each head. scale: the key of the branch's. letters: maps with a bias, where there are any. windows_turn: whether
    only layers with a window rotate, where some have none.
    """

    choice: str = "gate.e_score_correction_bias"
    normed: bool | str = False
    groups: int | None = None
    scale: str | None = None
    letters: str = "qkvo"
    windows_turn: bool = False


SIGMOID = {
    "glm4_moe": Sigmoid(normed="use_qk_norm", letters="qkv"),
    "dots1": Sigmoid(normed=True),
    "solar_open": Sigmoid(),
    "minimax_m2": Sigmoid("e_score_correction_bias", normed=True, groups=1),
    "hy_v3": Sigmoid("e_score_correction_bias", normed=True, scale="router_scaling_factor"),
    "exaone_moe": Sigmoid(normed=True, windows_turn=True),
}


def glm4_moe(c: Config) -> Model:
    """Sigmoid scores with a bias of the choice, shared experts, dense layers first."""
    s = SIGMOID[c.type]
    hidden = c.get("moe_intermediate_size") or c.intermediate_size
    shared_count = c.get("n_shared_experts", c.get("num_shared_experts", 0)) or 0
    scale = None if s.scale is None else float(getattr(c, s.scale))
    groups: Data = {} if s.groups is None else {"groups": s.groups}
    is_normed = c.get(s.normed, False) if isinstance(s.normed, str) else s.normed
    router = biased(c, scale=scale, renormalise=bool(c.get("norm_topk_prob", c.get("route_norm", True))))

    def named(name: str) -> Part:
        return rms(f"{name}_norm", c.rms_norm_eps, **groups)

    def ffn(i: int) -> Part:
        if not is_sparse(c, i):
            return gated(MLP, c.intermediate_size, c.hidden_act)
        return routed(
            c,
            hidden,
            router=router,
            gate="gate.weight",
            choice_bias=s.choice,
            shared=shared_of(c, hidden * shared_count),
        )

    def options(i: int) -> Data:
        is_global = s.windows_turn and c.get("sliding_window") is not None and window_of(c, i) is None
        return {"position": NO_POSITION} if is_global else {}

    letters = s.letters if c.get("attention_bias", False) else ""
    return Llama(c, biased=letters, qk=named if is_normed else None, ffn=ffn, options=options).model()


def ernie(c: Config) -> Model:
    """A bias of the choice on softmax scores; neighbouring pairs turn."""
    bias = bool(c.get("use_bias", False))

    def ffn(i: int) -> Part:
        if not is_sparse(c, i):
            return gated(MLP, c.intermediate_size, c.hidden_act, bias=bias)
        hidden = c.moe_intermediate_size
        return routed(
            c,
            hidden,
            router={"choice_bias": True},
            choice_bias="gate.moe_statics.e_score_correction_bias",
            shared=shared_of(c, hidden * c.moe_num_shared_experts),
        )

    return Llama(c, biased="qkvo" if bias else "", pairs="neighbours", ffn=ffn).model()


def gpt_oss(c: Config) -> Model:
    """Clipped gates, biases everywhere, sinks, windows in every other layer."""
    hidden = c.intermediate_size
    weights = stacks(f"{MLP}.experts", hidden, is_transposed=True, alternating=True)
    both = f"{MLP}.experts.gate_up_proj_bias"
    weights |= {
        "routed.gate_bias": Source(both, lambda tensor: tensor[:, 0::2]),
        "routed.up_bias": Source(both, lambda tensor: tensor[:, 1::2]),
        "routed.down_bias": Source(f"{MLP}.experts.down_proj_bias"),
        "router_bias": Source(f"{MLP}.router.bias"),
    }
    act = {"kind": "clipped", "limit": float(c.get("swiglu_limit", 7.0)), "slope": 1.702, "shift": 1.0}
    part = experts(
        MLP,
        count=count_of(c),
        top=top_of(c),
        hidden=hidden,
        router={"bias": True},
        gate="router.weight",
        weights=weights,
        of={"kind": "gated", "hidden": hidden, "act": act, "bias": True},
    )
    own = {**projections(f"{AT}.self_attn", biased="qkvo"), "sink_logit": Source(f"{AT}.self_attn.sinks")}
    return Llama(c, biased="qkvo", ffn=lambda i: part, weights=own, options=lambda i: {"sink_logit": True}).model()


def afmoe(c: Config) -> Model:
    """Gated attention, sandwich norms, rotation in windows only, sigmoid scores with a bias of the choice."""
    hidden = c.moe_intermediate_size
    router = biased(c, scale=float(c.get("route_scale", 1.0)), renormalise=bool(c.get("route_norm", True)))

    def ffn(i: int) -> Part:
        if not is_sparse(c, i):
            return gated(MLP, c.intermediate_size, c.hidden_act)
        return routed(
            c,
            hidden,
            router=router,
            gate="router.gate.weight",
            choice_bias="expert_bias",
            shared=shared_of(c, hidden * c.num_shared_experts),
        )

    def options(i: int) -> Data:
        return {"gate": "channel", **({"position": NO_POSITION} if window_of(c, i) is None else {})}

    own = {**projections(f"{AT}.self_attn"), "gate": Source(f"{AT}.self_attn.gate_proj.weight")}
    return Llama(
        c,
        qk=lambda name: rms(f"{name}_norm", c.rms_norm_eps),
        slots=("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"),
        ffn=ffn,
        weights=own,
        options=options,
        embedding=scaled(c.hidden_size**0.5) if c.get("mup_enabled", False) else None,
        position=rope(c, c.head_dim),
    ).model()


def aria(c: Config) -> Model:
    """Inputs come first in the stacks; a shared feed-forward."""
    hidden = c.intermediate_size
    bias = bool(c.get("mlp_bias", False))
    part = routed(
        c,
        hidden,
        router={},
        gate="router.weight",
        weights=stacks(f"{MLP}.experts", hidden, is_transposed=True),
        shared=gated(f"{MLP}.shared_experts", hidden * c.moe_num_shared_experts, c.hidden_act, bias=bias),
    )
    return Llama(c, biased="qkvo" if c.get("attention_bias", False) else "", ffn=lambda i: part).model()


def hunyuan(c: Config) -> Model:
    """q and k are normed after they turn; a shared feed-forward."""
    part = experts(
        MLP,
        count=count_of(c),
        top=top_of(c),
        hidden=c.intermediate_size,
        act=c.hidden_act,
        router={},
        gate="gate.wg.weight",
        shared=gated(f"{MLP}.shared_mlp", c.intermediate_size, c.hidden_act),
    )
    names = {"q": "query_layernorm", "k": "key_layernorm"}
    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        qk=lambda name: rms(f"{name[:-1]}{names[name[-1]]}", c.rms_norm_eps),
        ffn=lambda i: part,
        options=lambda i: {"qk_norm_at": "position"},
    ).model()


def llama4(c: Config) -> Model:
    """Chunks and rotation in three layers of four, warmer scores in the fourth; experts that get weighed inputs."""
    at = f"{AT}.feed_forward"
    hidden = c.intermediate_size
    sparse = experts(
        at,
        count=count_of(c),
        top=top_of(c),
        hidden=hidden,
        act=c.hidden_act,
        router={"score": "sigmoid", "renormalise": False},
        gate="router.weight",
        weights=stacks(f"{at}.experts", hidden, is_transposed=True),
        shared=gated(f"{at}.shared_expert", hidden, c.hidden_act),
        on="input",
    )
    plain = gated(at, c.intermediate_size_mlp, c.hidden_act)
    norm = rms("", c.rms_norm_eps, gain=False)

    def options(i: int) -> Data:
        if c.no_rope_layers[i]:
            chunks = {"stencil": {"kind": "block", "size": c.attention_chunk_size}}
            return {**chunks, **({"qk_norm": norm.data, "qk_norm_at": "position"} if c.use_qk_norm else {})}
        warm = {"slope": float(c.attn_scale), "period": int(c.floor_scale), "first": 1}
        return {"position": NO_POSITION, **({"temperature": warm} if c.attn_temperature_tuning else {})}

    return Llama(
        c,
        biased="qkvo" if c.get("attention_bias", False) else "",
        pairs="neighbours",
        ffn=lambda i: sparse if i in c.moe_layers else plain,
        options=options,
    ).model()
