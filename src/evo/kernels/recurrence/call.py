"""What a recurrence has besides q, k and v; and what the dispatcher knows about it, which is no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from evo.kernels.dispatch import KernelCall

DECAYS = ("none", "head", "token", "channel")
UPDATES = ("outer", "delta", "dplr")


class RecurrenceExtras(NamedTuple):
    """What a call of `recur` may have besides q, k and v, under its names."""

    log_decay: Tensor | None = None
    beta_BTH: Tensor | None = None
    dplr: tuple[Tensor, Tensor] | None = None
    bonus_HK: Tensor | None = None
    initial_state_BHKV: Tensor | None = None
    segments_BT: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class RecurrenceCall(KernelCall):
    """One `recur` call. `decay` is one of DECAYS, `update` one of UPDATES."""

    family: str = "recurrence"
    batch: int
    time: int
    heads: int
    key_dim: int
    value_dim: int
    decay: str
    update: str
    has_bonus: bool = False
    has_state: bool = False
    chunk: int = 64
    needs_grad: bool = False
