"""The residual sum and the norm after it, in one launch each way.

RMS norm: x / sqrt(mean(x²) + eps) * gain (Zhang & Sennrich 2019, arXiv 1910.07467). Layer norm: (x - mean) /
sqrt(variance + eps) * gain + bias (Ba et al. 2016, arXiv 1607.06450).
"""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.autocast import product_dtype
from evo.kernels.fused.support import AUTO, chosen, table, tile_rows
from evo.kernels.members import row_folds
from evo.kernels.operators import operator
from evo.kernels.triton_support import DTYPES, dense, dtype_name, next_pow2

PROGRAMS = 4224
"""Programs of a backward: each sums its share of the gain's gradient, so that the order of the sum never changes."""
WARP_ELEMENTS = 2048
"""What a warp of a backward holds. Rows that fit in one are summed without waiting for another."""
SUM_ROWS, SUM_COLS = 1024, 8
WIDEST = 16_384
"""The widest row that one tile holds."""


def norm(x: Tensor, gain_D: Tensor, bias_D: Tensor | None, eps: float, *, center: bool, backend: str = AUTO) -> Tensor:
    """RMS norm (plus the bias, if any), or with `center` layer norm, over the last dimension: (..., D) -> (..., D).

    In x's dtype; the kernel answers in the dtype that autocast gives to matrix products.
    """
    return chosen(NORM, x, backend, _only(x, gain_D, bias_D))(x, gain_D, bias_D, eps, center)


def _norm(x: Tensor, gain_D: Tensor, bias_D: Tensor | None, eps: float, center: bool) -> Tensor:
    return _add_norm(x, None, gain_D, bias_D, eps, center, product_dtype(x))[1]


def add_norm(
    x: Tensor, y: Tensor, gain_D: Tensor, bias_D: Tensor | None, eps: float, *, center: bool, backend: str = AUTO
) -> tuple[Tensor, Tensor]:
    """x + y, both (..., D), and the norm of the sum, as `norm` gives it."""
    only = _only(x, gain_D, bias_D) if x.shape == y.shape else "x and y of one shape"
    if y.dtype != x.dtype and dtype_name(y.dtype) not in DTYPES:
        only = f"x and y of {', '.join(DTYPES)}"
    return chosen(ADD_NORM, x, backend, only)(x, y, gain_D, bias_D, eps, center)


def _sum_and_norm(x: Tensor, y: Tensor, gain_D: Tensor, bias_D: Tensor | None, eps: float, center: bool):
    return _add_norm(x, y, gain_D, bias_D, eps, center, product_dtype(x))


def _plain_sum_and_norm(x: Tensor, y: Tensor, gain_D: Tensor, bias_D: Tensor | None, eps: float, center: bool):
    total = x + y
    return total, _plain(total, gain_D, bias_D, eps, center)


def _only(x: Tensor, gain_D: Tensor, bias_D: Tensor | None) -> str:
    """What the kernel takes, if these are not it."""
    D = x.shape[-1]
    if gain_D.shape != (D,) or (bias_D is not None and bias_D.shape != (D,)):
        return f"gain and bias of {D}"
    return f"rows of up to {WIDEST}" if D > WIDEST else ""


def _plain(x: Tensor, gain_D: Tensor, bias_D: Tensor | None, eps: float, center: bool) -> Tensor:
    gain_D, bias_D = gain_D.to(x.dtype), None if bias_D is None else bias_D.to(x.dtype)
    if center:
        return F.layer_norm(x, gain_D.shape, gain_D, bias_D, eps)
    y = F.rms_norm(x, gain_D.shape, gain_D, eps)
    return y if bias_D is None else y + bias_D


@operator("add_norm", row_folds((0, 0), (0, 0)))
def _add_norm(
    x: Tensor, y: Tensor | None, gain: Tensor, bias: Tensor | None, eps: float, center: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """x + y (empty without y) in their common dtype, and its norm in `dtype`."""
    from evo.kernels.fused import triton_norm

    D = x.shape[-1]
    x, y, gain, bias = x.contiguous(), dense(y), gain.contiguous(), dense(bias)
    total, out = _shapes(x, y, dtype)
    width, rows = next_pow2(D), x.numel() // D
    tile = tile_rows(width)
    triton_norm.norm_forward[(-(-rows // tile),)](
        x, y, gain, bias, total, out, rows, D, eps, y is not None, center, bias is not None, tile, width
    )
    return total, out


def _shapes(x: Tensor, y: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Empty results for x and y."""
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    if y is None:
        return torch.empty(0, dtype=x.dtype, device=x.device), out
    return torch.empty(x.shape, dtype=torch.promote_types(x.dtype, y.dtype), device=x.device), out


@_add_norm.register_fake
def _(x, y, gain, bias, eps, center, dtype):
    return _shapes(x, y, dtype)


@operator("add_norm_backward")
def _add_norm_backward(
    dout: Tensor, dtotal: Tensor | None, total: Tensor, gain: Tensor, has_bias: bool, eps: float, center: bool,
    x_dtype: torch.dtype, y_dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dx, dy (empty if it would equal dx, dtype included), and dgain, dbias as rows of one float32 tensor."""
    from evo.kernels.fused import triton_norm

    D = total.shape[-1]
    dout, dtotal, total, gain = dout.contiguous(), dense(dtotal), total.contiguous(), gain.contiguous()
    dx, dy, dvectors = _gradients(total, has_bias, x_dtype, y_dtype)
    width, rows = next_pow2(D), total.numel() // D
    tile = tile_rows(width, WARP_ELEMENTS)
    programs = min(PROGRAMS, -(-rows // tile))
    tiles = -(-rows // (tile * programs))
    shares = torch.empty(2 if has_bias else 1, programs, D, dtype=torch.float32, device=total.device)
    triton_norm.norm_backward[(programs,)](
        dout, dtotal, total, gain, dx, dy, shares[0], shares[-1], rows, D, eps, tiles,
        dtotal is not None, dy.numel() > 0, center, has_bias, tile, width,
        _unit(total, dout, dx, dy), num_warps=max(1, width // WARP_ELEMENTS),
    )  # fmt: skip
    column_sums(shares, dvectors)
    return dx, dy, dvectors


def column_sums(shares_VPD: Tensor, sums_VD: Tensor) -> None:
    """Write the sums of the P rows of each matrix, all dense float32; their order never changes."""
    from evo.kernels.fused import triton_norm

    V, P, D = shares_VPD.shape
    triton_norm.column_sums[(-(-D // SUM_COLS), V)](shares_VPD, sums_VD, P, D, min(SUM_ROWS, next_pow2(P)), SUM_COLS)


def _unit(*tensors: Tensor) -> int:
    """How many elements of the widest dtype make 16 bytes."""
    return 16 // max(tensor.element_size() for tensor in tensors)


def _gradients(total: Tensor, has_bias: bool, x_dtype: torch.dtype, y_dtype: torch.dtype | None):
    """Empty gradients."""
    D = total.shape[-1]
    splits = y_dtype is not None and y_dtype != x_dtype
    dx = torch.empty(total.shape, dtype=x_dtype, device=total.device)
    dy = torch.empty(total.shape if splits else (0,), dtype=y_dtype if splits else x_dtype, device=total.device)
    return dx, dy, torch.empty(1 + has_bias, D, dtype=torch.float32, device=total.device)


@_add_norm_backward.register_fake
def _(dout, dtotal, total, gain, has_bias, eps, center, x_dtype, y_dtype):
    return _gradients(total, has_bias, x_dtype, y_dtype)


def _save(ctx, inputs, output):
    x, y, gain, bias, ctx.eps, ctx.center, _ = inputs
    ctx.dtypes = x.dtype, None if y is None else y.dtype
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(x if y is None else output[0], gain)
    ctx.set_materialize_grads(False)


def _backward(ctx, dtotal, dout):
    total, gain = ctx.saved_tensors
    x_dtype, y_dtype = ctx.dtypes
    dout = torch.zeros_like(total) if dout is None else dout
    dtotal = None if y_dtype is None else dtotal
    has_bias = ctx.bias_dtype is not None
    dx, dy, dvectors = _add_norm_backward(dout, dtotal, total, gain, has_bias, ctx.eps, ctx.center, x_dtype, y_dtype)
    if y_dtype is None:
        dy = None
    elif y_dtype == x_dtype:
        dy = dx
    dbias = dvectors[1].to(ctx.bias_dtype) if has_bias else None
    return dx, dy, dvectors[0].to(gain.dtype), dbias, None, None, None


_add_norm.register_autograd(_backward, setup_context=_save)

NORM = table("norm", _norm, _plain)
ADD_NORM = table("add norm", _sum_and_norm, _plain_sum_and_norm)
