"""The packed-gradient contract: gradients of several projections of one input come back as columns of one tensor.

A product made for q, k and v together (or for gate and up) needs their gradients side by side. Kernels that make such
gradients write them there at once and hand out `columns`; between them and the product autograd passes views along, so
the product finds the packed tensor again by `packed`, and copies only where the contract was broken on the way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def columns(packed: Tensor, shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Views of (..., W): for every shape the next columns, as many as it has elements, as (..., *shape)."""
    widths = [torch.Size(shape).numel() for shape in shapes]
    parts = packed.split(widths, -1)
    return tuple(x if len(shape) == 1 else x.unflatten(-1, shape) for x, shape in zip(parts, shapes, strict=True))


def packed(parts_NW: Sequence[Tensor]) -> Tensor:
    """Matrices of equal height side by side, (N, sum of widths): a view if they are `columns` of one tensor, in order
    and with none left out, else a copy."""
    first, width = parts_NW[0], sum(part.shape[1] for part in parts_NW)
    at = first.data_ptr()
    for part in parts_NW:
        if part.data_ptr() != at or part.stride() != (width, 1) or not _shares_memory(part, first):
            return torch.cat(list(parts_NW), -1) if len(parts_NW) > 1 else first
        at += part.shape[1] * part.element_size()
    return first.as_strided((first.shape[0], width), (width, 1))


def _shares_memory(x: Tensor, y: Tensor) -> bool:
    return x.dtype == y.dtype and x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
