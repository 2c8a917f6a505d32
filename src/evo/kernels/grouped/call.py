"""What a grouped product has besides rows and matrices; and what the dispatcher knows about it, which is no tensors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from evo.kernels.dispatch import AUTO, KernelCall


@dataclass(frozen=True)
class Groups:
    """Which rows meet which entry of a stack.

    counts_E: int64, how many rows belong to each entry; they lie one after another in the order of the entries, and
        the counts sum to the number of rows.
    backend: which backend multiplies: `auto`, or a name, which is then never replaced silently.
    """

    counts_E: Tensor
    backend: str = AUTO

    def entries(self, rows: int) -> Tensor:
        """The entry of each of so many rows, (rows,) int64. Reads nothing on the host."""
        ends_E, at_N = self.counts_E.cumsum(0), self.counts_E.new_ones(rows).cumsum(0) - 1
        return (ends_E[None, :] <= at_N[:, None]).sum(1)


@dataclass(frozen=True, kw_only=True)
class GroupedCall(KernelCall):
    """One grouped product: `rows` rows of `inner` values, `entries` matrices (outer, inner)."""

    family: str = "grouped"
    rows: int
    entries: int
    inner: int
    outer: int
