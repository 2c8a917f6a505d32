"""When the fused kernels run, and in which dtype they answer."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.triton_support import machine_reasons

AUTO, REFERENCE, TRITON = "auto", "reference", "triton"


def is_fused(x: Tensor) -> bool:
    """Whether the kernels take x when nobody asked for a backend: a CUDA tensor of a dtype they know, not empty."""
    return x.is_cuda and x.numel() > 0 and not machine_reasons(x.device.type, str(x.dtype).removeprefix("torch."))


def takes_triton(x: Tensor, backend: str, only: str = "") -> bool:
    """Whether to launch: as `is_fused` says, or as asked for by name. only: what the kernel takes, if this is not it.

    Raises ValueError for a backend nobody knows, or `triton` where no kernel of ours can run.
    """
    if backend == AUTO:
        return not only and is_fused(x)
    if backend not in (REFERENCE, TRITON):
        raise ValueError(f"unknown backend {backend!r}; known: {AUTO}, {REFERENCE}, {TRITON}")
    if backend == REFERENCE:
        return False
    reasons = machine_reasons(x.device.type, str(x.dtype).removeprefix("torch."))
    reasons += [f"takes {only}"] if only else []
    if reasons:
        raise ValueError(f"backend 'triton' cannot run: {'; '.join(reasons)}")
    return x.numel() > 0


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which the next matrix product will read x: autocast's, or x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def tile_rows(padded: int, elements: int = 2048) -> int:
    """How many rows of `padded` columns make a tile of about `elements`."""
    return max(1, min(32, elements // padded))
