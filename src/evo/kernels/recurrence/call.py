"""What the dispatcher knows about a recurrence: shapes, dtype, member of the family; no tensors."""

from __future__ import annotations

from dataclasses import dataclass

from evo.kernels.dispatch import KernelCall

DECAYS = ("none", "head", "token", "channel")
UPDATES = ("outer", "delta", "dplr")


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
