"""What an attention call has besides q, k and v; and what the dispatcher knows about it, which is no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from evo.kernels.attention.mixing import ScoreMix
from evo.kernels.attention.stencil import Stencil
from evo.kernels.dispatch import KernelCall

Weigh = Literal["softmax", "sigmoid", "softpick", "stick_breaking", "sparsemax", "entmax", "relu", "relu2"]
"""What makes weights of logits; see `reference.WEIGHTS`."""


class AttentionExtras(NamedTuple):
    """What a call of `attend` may have besides q, k, v and a stencil, under its names. segments: the documents of the
    queries (B, T) and of the keys (B, S)."""

    soft_cap: float | None = None
    sink_logits_H: Tensor | None = None
    alibi_slopes_H: Tensor | None = None
    bias_HTS: Tensor | None = None
    query_offset: int = 0
    key_positions_S: Tensor | None = None
    segments: tuple[Tensor, Tensor] | None = None
    keep_BHTS: Tensor | None = None
    weigh: Weigh = "softmax"
    mix: ScoreMix | None = None


@dataclass(frozen=True, kw_only=True)
class AttentionCall(KernelCall):
    """One attention call. `offset` is the absolute position of query 0; `needs_grad`: a backward may follow;
    `must_repeat`: with the same bytes every time."""

    family: str = "attention"
    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    stencil: Stencil
    offset: int = 0
    has_soft_cap: bool = False
    has_sink_logits: bool = False
    has_alibi: bool = False
    has_segments: bool = False
    has_key_positions: bool = False
    has_bias: bool = False
    has_keep: bool = False
    weigh: Weigh = "softmax"
    has_mix: bool = False
    needs_grad: bool = False
    must_repeat: bool = False

    def equation_reasons(self) -> list[str]:
        """Why none but the equation itself runs it, if that is so."""
        found = ["weighs by softmax only"] if self.weigh != "softmax" else []
        return [*found, "mixes no scores"] if self.has_mix else found

    @property
    def is_plain_causal(self) -> bool:
        """Whether SDPA's `is_causal` (aligned at the first position) says it all."""
        return self.stencil.causal and not self.needs_mask and self.queries == self.keys and self.offset == 0

    @property
    def is_plain_full(self) -> bool:
        return not self.stencil.causal and not self.needs_mask

    @property
    def needs_mask(self) -> bool:
        """Whether something besides causality decides what is seen or adds to the logits."""
        return (
            not self.stencil.is_plain or self.has_alibi or self.has_segments or self.has_key_positions or self.has_bias
        )
