"""Families that have no kernel yet: plain torch is their definition, and what runs on every device."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from evo.kernels.dispatch import Backend, KernelCall, Table, always
from evo.kernels.triton_support import dtype_name


def plain_table(family: str, run: Callable) -> Table:
    """A table of the reference alone."""
    return Table(family, (Backend("reference", run, always),), {"cpu": ("reference",)})


def plain_call(table: Table, x: Tensor) -> KernelCall:
    """What a call on such a tensor (a meta tensor does) asks of a plain table."""
    return KernelCall(family=table.family, device=x.device.type, dtype=dtype_name(x.dtype))
