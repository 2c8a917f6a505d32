"""Launches of the recurrence kernels: block sizes, strides, grids. Tensors in, tensors out, no autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.recurrence import triton_walk
from evo.kernels.triton_support import aligned, dense, is_interpreting, padded


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


def walk_blocks(depth: int, width: int, heads: int, time: int, dtype: torch.dtype) -> Blocks:
    """Blocks of the plain walk, which has registers left for a deeper pipeline where the state is small.

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


@dataclass(frozen=True)
class Walk:
    """What is compiled into a walk. `before`: a query's exponent leaves out its own step. `keep`: walking forward, the
    states before all segments but the first are kept."""

    back: bool = False
    strict: bool = False
    before: bool = False
    final: bool = False
    scale: float = 1.0
    keep: bool = False


@dataclass(frozen=True)
class Walked:
    """out (B, T, H, Z) in z's dtype; float32, and empty where not asked for: dots (Z blocks, B, H, T), the final state
    (B, H, A, Z), the kept states (B, H, segments, A, Z) and anchors (Z blocks, B, H, segments)."""

    out: Tensor
    dots: Tensor
    final: Tensor
    kept: Tensor
    anchors: Tensor


def segment_length() -> int:
    """Tokens of a segment: over so many, rounding may add up in the running sums that decay gradients are."""
    return 64 if is_interpreting() else 512


def launch_walk(
    x: Tensor, y: Tensor, z: Tensor, log_decay: Tensor | None, dot_with: Tensor | None, initial: Tensor | None,
    how: Walk, kept: Tensor | None = None,
) -> Walked:  # fmt: skip
    """One walk. Back, with the states that a walk forward `kept`, it makes the anchors."""
    x, y, z = aligned(x), aligned(y), aligned(z)
    dot_with = None if dot_with is None else aligned(dot_with)
    B, T, H, A = x.shape
    Z = z.shape[3]
    sizes = walk_blocks(padded(A), padded(Z), B * H, T, z.dtype)
    pieces, segments = -(-Z // sizes.ZB), -(-T // segment_length())
    room = lambda asked, *shape: torch.empty(shape if asked else 0, dtype=torch.float32, device=z.device)  # noqa: E731
    anchored = kept is not None and kept.numel() > 0
    walked = Walked(
        torch.empty(B, T, H, Z, dtype=z.dtype, device=z.device),
        room(dot_with is not None, pieces, B, H, T),
        room(how.final, B, H, A, Z),
        room(how.keep and segments > 1, B, H, segments, A, Z),
        room(anchored, pieces, B, H, segments),
    )
    if B * H == 0 or T == 0:
        if how.final:
            walked.final.zero_() if initial is None else walked.final.copy_(initial)
        return walked
    with_strides = (0, 0, 0) if dot_with is None else dot_with.stride()[:3]
    initial = None if initial is None else headwise(initial)
    state_strides = (0, 0, 0) if initial is None else initial.stride()[1:]
    every = segment_length() // sizes.C if anchored or walked.kept.numel() else 0
    triton_walk.walk[(B * H * pieces,)](
        x, y, z, dense(log_decay), dot_with, initial, kept if anchored else walked.kept,
        walked.out, walked.dots, walked.final, walked.anchors,
        *x.stride()[:3], *y.stride()[:3], *z.stride()[:3], *with_strides, *walked.out.stride()[:3],
        *state_strides, H, T, B * H, how.scale, decay_kind(log_decay), how.back, how.strict, how.before,
        dot_with is not None, initial is not None, how.final, every, A, Z, padded(A), sizes.ZB, sizes.C,
        precision(z.dtype), num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return walked


def headwise(state: Tensor) -> Tensor:
    """A state (B, H, A, Z) whose batches and heads lie one after another, transposed inside or not."""
    return state if state.stride(0) == state.shape[1] * state.stride(1) else state.contiguous()
