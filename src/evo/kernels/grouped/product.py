"""`grouped_product`: the one entrance to products of rows with a stack of matrices."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from evo.kernels.autocast import product_dtype
from evo.kernels.dispatch import choose
from evo.kernels.grouped.backends import OUTER, TABLE
from evo.kernels.grouped.call import GroupedCall, Groups
from evo.kernels.members import Fold, folds
from evo.kernels.operators import is_inlining, operator
from evo.kernels.triton_support import dtype_name

SIDE_BY_SIDE = folds(Fold((0, 0, 0), (0,)))
"""Members' rows one after another meet their stacks one after another."""


def grouped_product(x_NI: Tensor, weight_EOI: Tensor, groups: Groups) -> Tensor:
    """y_n = weight[e(n)] x_n for the entry e(n) that row n belongs to: (N, O), in x's dtype, or autocast's.

    Args:
        x_NI: (N, I), the rows of each entry of the stack together, in the order of the entries.
        weight_EOI: (E, O, I).
        groups: how many rows each entry has. Their sum must be N, which nobody checks: it would make the host wait.
    """
    x_NI = x_NI.to(product_dtype(x_NI))
    requested = "all" if is_inlining() else groups.backend  # a trace cannot know the counts
    backend = choose(TABLE, plan(x_NI, weight_EOI), requested).backend.name
    return _product(x_NI, weight_EOI.to(x_NI.dtype), groups.counts_E, backend)


def plan(x_NI: Tensor, weight_EOI: Tensor) -> GroupedCall:
    """What these tensors (meta tensors do) ask for."""
    entries, outer, inner = weight_EOI.shape
    if x_NI.ndim != 2 or x_NI.shape[1] != inner:
        raise ValueError(f"a stack {tuple(weight_EOI.shape)} takes rows of {inner} values, found {tuple(x_NI.shape)}")
    device, dtype = x_NI.device.type, dtype_name(x_NI.dtype)
    return GroupedCall(device=device, dtype=dtype, rows=x_NI.shape[0], entries=entries, inner=inner, outer=outer)


@operator("grouped_product", SIDE_BY_SIDE)
def _product(x: Tensor, weight: Tensor, counts: Tensor, backend: str) -> Tensor:
    """As `grouped_product`, on a backend by name."""
    return TABLE.named(backend).run(x, weight, counts)


@_product.register_fake
def _(x: Tensor, weight: Tensor, counts: Tensor, backend: str) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


@operator("grouped_outer", SIDE_BY_SIDE)
def _outer(y: Tensor, x: Tensor, counts: Tensor, backend: str) -> Tensor:
    """The gradient of the matrices: sum over the rows of an entry of y^T x, (E, O, I)."""
    return OUTER[backend](y, x, counts)


@_outer.register_fake
def _(y: Tensor, x: Tensor, counts: Tensor, backend: str) -> Tensor:
    return x.new_empty(counts.shape[0], y.shape[1], x.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, counts, ctx.backend = inputs
    ctx.save_for_backward(x, weight, counts)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None, None]:
    x, weight, counts = ctx.saved_tensors
    dy = dy.to(x.dtype)
    return _product(dy, weight.mT, counts, ctx.backend), _outer(dy, x, counts, ctx.backend), None, None


_product.register_autograd(_backward, setup_context=_save)
