"""What GGUF files of each architecture say, in the words of the configurations that families read: data alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Line:
    """How the files of one architecture differ from checkpoints of transformers.

    type: which that is. fixed: settings that files do not hold, since the architecture has no others. is_paired:
    whether rows of q and k stand so that neighbouring pairs turn. is_one_plus: whether gains of norms have their one in
    them. locals: of how many layers all but the last look through a window; 0 for none. local_theta: the base of their
    rotation, where it is not that of the others and the file does not say it. by_width: the number of layers of the one
    size whose scores are divided by the root of width / heads and not of the width of a head (Gemma's 27B).
    with_experts: the type where a file has experts.
    """

    type: str
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_paired: bool = False
    is_one_plus: bool = False
    locals: int = 0
    local_theta: float | None = None
    by_width: int | None = None
    with_experts: str | None = None


GELU: Mapping[str, Any] = {"hidden_activation": "gelu_pytorch_tanh"}
SILU: Mapping[str, Any] = {"hidden_act": "silu"}
LINES: Mapping[str, Line] = {
    "llama": Line("llama", SILU, is_paired=True, with_experts="mixtral"),
    "qwen2": Line("qwen2", {**SILU, "use_sliding_window": False}),
    "qwen3": Line("qwen3", {**SILU, "use_sliding_window": False}),
    "qwen2moe": Line("qwen2_moe", {**SILU, "use_sliding_window": False, "norm_topk_prob": False}),
    "qwen3moe": Line("qwen3_moe", {**SILU, "use_sliding_window": False, "norm_topk_prob": True}),
    "olmoe": Line("olmoe", {**SILU, "norm_topk_prob": False}),
    "phi3": Line("phi3", SILU),
    "gemma": Line("gemma", GELU, is_one_plus=True),
    "gemma2": Line("gemma2", GELU, is_one_plus=True, locals=2, by_width=46),
    "gemma3": Line("gemma3_text", GELU, is_one_plus=True, locals=6, local_theta=1e4, by_width=62),
}
"""By `general.architecture`."""

KEYS: Mapping[str, str] = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "clip_qkv": "attention.clamp_kqv",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
}
"""Keys of a configuration, and of a file, the latter behind the name of the architecture."""

YARN_KEYS: Mapping[str, str] = {
    "original_max_position_embeddings": "rope.scaling.original_context_length",
    "beta_fast": "rope.scaling.yarn_beta_fast",
    "beta_slow": "rope.scaling.yarn_beta_slow",
}
"""Keys of rotations that are stretched by parts, the same way."""

PARTS: Mapping[str, tuple[str, ...]] = {"gate_up_proj": ("gate_proj", "up_proj")}
"""What lies in one tensor of all experts in checkpoints, and in several in files, one behind another."""

UNREAD = (
    "attention.value_length_mla",
    "attention.scale",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_log_multiplier",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "expert_shared_count",
    "expert_group_count",
    "expert_weights_scale",
)
"""Keys of files that say something of which no line here knows what it means."""
