"""When the fused kernels run, and in which dtype they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from evo.kernels.dispatch import AUTO, Backend, KernelCall, Table, always, choose
from evo.kernels.triton_support import dtype_name, machine_reasons

REFERENCE, TRITON = "reference", "triton"


@dataclass(frozen=True, kw_only=True)
class FusedCall(KernelCall):
    """A call of a fused operation. unfit: what its kernel takes, if the tensors are not it."""

    unfit: str = ""


def reasons(call: FusedCall) -> list[str]:
    """Why the kernel of an operation cannot run."""
    return [*machine_reasons(call.device, call.dtype), *([f"takes {call.unfit}"] if call.unfit else [])]


def table(operation: str, run: Callable[..., Any], plain: Callable[..., Any]) -> Table:
    """The table of an operation with one kernel, which CUDA tensors take, and a plain form."""
    backends = (Backend(TRITON, run, reasons), Backend(REFERENCE, plain, always))
    return Table(operation, backends, {"cpu": (REFERENCE,), "cuda": (TRITON, REFERENCE)})


def callers(*tensors: Any) -> None:
    """Stands for what the caller of `takes_triton` runs itself."""
    raise AssertionError("the caller of takes_triton runs what it chose")


FUSED = table("fused", callers, callers)
"""Of operations whose plain form lies elsewhere: positions, RMS norm and optimizers have their own."""


def chosen(table: Table, x: Tensor, backend: str, unfit: str = "") -> Callable[..., Any]:
    """What runs `table`'s operation on x: by itself, the kernel on a CUDA tensor of a dtype it knows; or as asked for.

    unfit: what the kernel takes, if the tensors are not it. An empty tensor is the plain form's.
    Raises BackendError for a backend nobody knows, or `triton` where the kernel cannot run.
    """
    decide = _decide if torch.compiler.is_compiling() else _decided
    run = decide(table, x.device, x.dtype, unfit, backend).run
    return run if x.numel() > 0 else table.named(REFERENCE).run


def takes_triton(x: Tensor, backend: str = AUTO) -> bool:
    """Whether an operation whose plain form is the caller's should launch its kernel, as `chosen` decides."""
    decide = _decide if torch.compiler.is_compiling() else _decided
    return decide(FUSED, x.device, x.dtype, "", backend).name == TRITON and x.numel() > 0


def _decide(table: Table, device: torch.device, dtype: torch.dtype, unfit: str, backend: str) -> Backend:
    call = FusedCall(family=table.family, device=device.type, dtype=dtype_name(dtype), unfit=unfit)
    return choose(table, call, backend).backend


_decided = lru_cache(maxsize=4096)(_decide)
"""A dict's look-up: these calls wait for the host, which a call's description would cost two microseconds."""


def tile_rows(padded: int, elements: int = 2048) -> int:
    """How many rows of `padded` columns make a tile of about `elements`."""
    return max(1, min(32, elements // padded))
