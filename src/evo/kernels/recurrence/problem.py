"""What the dispatcher knows about a recurrence: shapes, dtype, member of the family; no tensors."""

from __future__ import annotations

from dataclasses import dataclass

from evo.kernels.dispatch import Table

DECAYS = ("none", "head", "token", "channel")
UPDATES = ("outer", "delta", "removal")


@dataclass(frozen=True)
class RecurrenceProblem:
    """One `recur` call. `decay` is one of DECAYS, `update` one of UPDATES."""

    device: str
    dtype: str
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

    @property
    def table(self) -> Table:
        from evo.kernels.recurrence.backends import TABLE

        return TABLE
