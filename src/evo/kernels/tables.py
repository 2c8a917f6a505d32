"""Every table of backends by which a call of this package is decided."""

from __future__ import annotations

from evo.kernels.attention import backends as attention
from evo.kernels.attention.probe import TABLE as PROBE
from evo.kernels.attention.reflected import TABLE as REFLECTED
from evo.kernels.convolution import backends as convolution
from evo.kernels.convolution.dynamic import TABLE as DYNAMIC
from evo.kernels.dispatch import KernelCall, Table
from evo.kernels.fused import (
    ADD_NORM,
    CROSS_ENTROPY,
    EMBED,
    FUSED,
    GATED,
    GATHER_SEQUENCES,
    LRU_TERMS,
    NORM,
    PERMUTE,
    UNPERMUTE,
)
from evo.kernels.grouped import backends as grouped
from evo.kernels.recurrence import backends as recurrence
from evo.kernels.recurrence.by_value import TABLE as BY_VALUE
from evo.kernels.recurrence.levels import TABLE as BY_LEVEL
from evo.kernels.scan import TABLE as SCAN

TABLES: dict[str, Table] = {
    table.family: table
    for table in (
        *(attention.TABLE, recurrence.TABLE, convolution.TABLE, grouped.TABLE, SCAN, PROBE),
        *(REFLECTED, BY_VALUE, BY_LEVEL, DYNAMIC),
        *(FUSED, NORM, ADD_NORM, GATED, EMBED, CROSS_ENTROPY, GATHER_SEQUENCES, LRU_TERMS, PERMUTE, UNPERMUTE),
    )
}
"""By family."""


def table_of(call: KernelCall) -> Table:
    """The table of the call's family."""
    return TABLES[call.family]
