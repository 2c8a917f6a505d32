"""Launches of the recurrence kernels: block sizes, strides, grids. Tensors in, tensors out, no autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.triton_support import is_interpreting


@dataclass(frozen=True)
class Blocks:
    """Columns of the state that one program holds, tokens a chunk, warps and pipeline stages."""

    ZB: int
    C: int
    warps: int
    stages: int


def blocks_for(depth: int, width: int, heads: int, time: int, dtype: torch.dtype) -> Blocks:
    """By the state's rows and columns, how many heads there are to fill the chip with, and how long the sequence is."""
    if is_interpreting():
        return Blocks(min(width, 64), 32, 4, 1)
    rows = max(depth, 16)
    columns = min(width, 64 if rows <= 128 else 32)
    while columns > 16 and heads * (width // columns) < 128:
        columns //= 2
    if dtype == torch.float32:
        return Blocks(min(columns, 32), 32 if time > 16 else 16, 4, 1)
    # Triton 3.6 makes wrong code on Hopper of products with 64 rows, fewer columns and operands that are not pipelined.
    longest = 64 if rows <= 128 else 32
    tokens = min(longest, 64 if time > 32 else 32 if time > 16 else 16)
    return Blocks(columns, tokens, 4 if rows * columns <= 4096 else 8, 2 if rows <= 128 else 1)


def scan_blocks(depth: int, width: int, heads: int, time: int, dtype: torch.dtype) -> Blocks:
    """Blocks of the plain scan, which has registers left for a deeper pipeline where the state is small.

    On an H100, T = 2048 and 64 channels, a third stage saves a quarter of the time; 32 columns for twice the programs
    save another tenth where decays are per token.
    """
    sizes = blocks_for(depth, width, heads, time, dtype)
    if is_interpreting() or dtype == torch.float32 or depth > 64:
        return Blocks(sizes.ZB, sizes.C, 4, sizes.stages)
    few = heads * (width // sizes.ZB) < 256
    return Blocks(min(sizes.ZB, 32) if few else sizes.ZB, sizes.C, 4, 3)


def precision(dtype: torch.dtype) -> str:
    """How products of float32 are taken: in three parts for float32 inputs, in one for intermediates of short ones."""
    return "tf32x3" if dtype == torch.float32 else "tf32"


def decay_kind(log_decay: Tensor | None) -> int:
    """0 none, 1 per head, 2 per token."""
    return 0 if log_decay is None else 1 if log_decay.ndim == 1 else 2


def decay_axes(log_decay: Tensor | None) -> tuple[int | None, int | None]:
    """The axes of batches and of heads of a log decay (H,), (B, T, H) or (B, T, H, K)."""
    if log_decay is None:
        return None, None
    return (None, 0) if log_decay.ndim == 1 else (0, 2)


def headwise(state: Tensor) -> Tensor:
    """A state (B, H, A, Z) whose batches and heads lie one after another, transposed inside or not."""
    return state if state.stride(0) == state.shape[1] * state.stride(1) else state.contiguous()
