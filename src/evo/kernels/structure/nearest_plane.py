"""Whole numbers near given ones in the metric of a Cholesky factor: Babai's nearest plane, for stacks of matrices.

Source: Babai 1986; for the weights of a network it is GPTQ (2210.17323). Columns are rounded from the last to the
first; errors reach the columns of their block one by one, all others a block at a time.
"""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.triton_support import IS_INSTALLED, is_interpreting

AUTO, REFERENCE, TRITON = "auto", "reference", "triton"
BLOCK = 32
"""Columns of a block."""
ROWS = 32
"""Rows that a program rounds."""


def nearest_plane(wanted_GNR: Tensor, metric_GNN: Tensor, *, backend: str = AUTO) -> Tensor:
    """Whole numbers Z (G, N, R), float64, with a small |L^T (wanted - Z)| for lower triangular L.

    Z_c = round(wanted_c + sum_{j > c} (wanted_j - Z_j) L_jc / L_cc), halves to even.

    Args:
        wanted_GNR: float64, a column of numbers to be rounded for each of R.
        metric_GNN: float64 L, with a positive diagonal.
        backend: `reference`, `triton`, or `auto`, which is Triton on CUDA and the reference elsewhere.
    """
    spill_GNN = (metric_GNN / metric_GNN.diagonal(dim1=-2, dim2=-1)[:, None]).contiguous()
    wanted_GNR = wanted_GNR.contiguous()
    target_GNR = wanted_GNR.clone()
    round_block = _launched if _takes_triton(wanted_GNR, backend) else _looped
    for end in range(wanted_GNR.shape[1], 0, -BLOCK):
        block = slice(max(0, end - BLOCK), end)
        error_GBR = round_block(wanted_GNR, target_GNR, spill_GNN, block)
        target_GNR[:, : block.start].baddbmm_(spill_GNN[:, block, : block.start].mT, error_GBR)
    return target_GNR.round_()


def _looped(wanted_GNR: Tensor, target_GNR: Tensor, spill_GNN: Tensor, block: slice) -> Tensor:
    """Errors (G, B, R) of a block's columns; an error of column c adds spill[c, b] of itself to column b's target."""
    wanted_GBR, target_GBR, spill_GBB = wanted_GNR[:, block], target_GNR[:, block], spill_GNN[:, block, block]
    error_GBR = torch.empty_like(wanted_GBR)
    for column in reversed(range(wanted_GBR.shape[1])):
        error_GR = torch.sub(wanted_GBR[:, column], target_GBR[:, column].round(), out=error_GBR[:, column])
        target_GBR[:, :column].addcmul_(spill_GBB[:, column, :column, None], error_GR[:, None])
    return error_GBR


def _launched(wanted_GNR: Tensor, target_GNR: Tensor, spill_GNN: Tensor, block: slice) -> Tensor:
    """The same in one launch."""
    from evo.kernels.structure.triton_nearest_plane import round_block

    G, N, R = wanted_GNR.shape
    error_GBR = wanted_GNR.new_empty(G, block.stop - block.start, R)
    grid = ((R + ROWS - 1) // ROWS, G)
    round_block[grid](
        wanted_GNR, target_GNR, spill_GNN, error_GBR, block.start, block.stop, N, R, BLOCK=BLOCK, ROWS=ROWS, num_warps=4
    )
    return error_GBR


def _takes_triton(x: Tensor, backend: str) -> bool:
    if backend not in (AUTO, REFERENCE, TRITON):
        raise ValueError(f"unknown backend {backend!r}")
    if backend == AUTO:
        return x.is_cuda and IS_INSTALLED
    return backend == TRITON and (x.is_cuda or is_interpreting())
