"""Mean cross-entropy in nats, with no float32 copy of the logits; of many logits, only a slice is ever in memory."""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.fused.support import AUTO, product_dtype, takes_triton
from evo.kernels.operators import needs_grad, operator
from evo.kernels.triton_support import padded

SLICE = 1 << 25
"""How many logits are made at once; more are made and used up in slices, as Liger does (arXiv 2410.10989)."""


def soft_capped(x: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(x / cap) (Gemma 2), or x."""
    return x if cap is None else cap * torch.tanh(x / cap)


def cross_entropy(
    logits_NV: Tensor, targets_N: Tensor, soft_cap: float | None = None, *, backend: str = AUTO
) -> Tensor:
    """Mean of -log softmax(capped logits)[target] over N >= 1 rows; targets int64 in [0, V). A float32 scalar.

    Raises ValueError for a soft cap of 0, and as `takes_triton` does.
    """
    _check_cap(soft_cap)
    if not takes_triton(logits_NV, backend, _only(logits_NV, targets_N)):
        return F.cross_entropy(soft_capped(logits_NV, soft_cap).float(), targets_N)
    return _cross_entropy(logits_NV, targets_N, soft_cap or 0.0)[0]


def linear_cross_entropy(
    h_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, soft_cap: float | None = None, *, backend: str = AUTO
) -> Tensor:
    """`cross_entropy` of the logits h W^T. Where there are more than `SLICE` of them, they never exist together."""
    _check_cap(soft_cap)
    is_large = h_ND.shape[0] * weight_VD.shape[0] > SLICE
    if not is_large or not takes_triton(h_ND, backend, _only(h_ND, targets_N)):
        return cross_entropy(F.linear(h_ND, weight_VD), targets_N, soft_cap, backend=backend)
    may_need_grad = needs_grad(h_ND, weight_VD)
    dtype = product_dtype(h_ND)
    return _sliced(h_ND, weight_VD, targets_N, soft_cap or 0.0, dtype, SLICE // weight_VD.shape[0], may_need_grad)[0]


def _check_cap(soft_cap: float | None) -> None:
    """The plain form would divide by 0, and to the kernels 0 means no cap."""
    if soft_cap == 0:
        raise ValueError("soft_cap must not be 0; None is no cap")


def _only(x_ND: Tensor, targets_N: Tensor) -> str:
    """What the kernels take, if these are not it."""
    return "" if targets_N.shape == x_ND.shape[:-1] else "a target for each row"


def _tile(V: int) -> tuple[int, int]:
    cols = min(1024, padded(V))
    return max(1, 1024 // cols), cols


def launch_forward(logits: Tensor, targets: Tensor, loss: Tensor, lse: Tensor, cap: float) -> None:
    """Fill loss and lse (N,) float32 from logits (N, V) with dense columns."""
    from evo.kernels.fused import triton_cross_entropy as kernels

    N, V = logits.shape
    rows, cols = _tile(V)
    kernels.entropy_forward[(-(-N // rows),)](
        logits, targets, loss, lse, N, V, logits.stride(0), cap or 1.0, bool(cap), rows, cols
    )


def launch_backward(
    logits: Tensor, targets: Tensor, lse: Tensor, dloss: Tensor, out: Tensor, cap: float, scale: float
) -> None:
    """Fill out (N, V), dense or the logits themselves, with their gradient; dloss is a float32 scalar."""
    from evo.kernels.fused import triton_cross_entropy as kernels

    N, V = logits.shape
    rows, cols = _tile(V)
    kernels.entropy_backward[(-(-N // rows), -(-V // cols))](
        logits, targets, lse, dloss, out, N, V, logits.stride(0), cap or 1.0, scale, bool(cap), rows, cols
    )


@operator("cross_entropy")
def _cross_entropy(logits: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """The mean loss and the log-sum-exp of every row, float32. cap 0 means none."""
    loss, lse = (torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device) for _ in range(2))
    launch_forward(logits.contiguous(), targets.contiguous(), loss, lse, cap)
    return loss.mean(), lse


@_cross_entropy.register_fake
def _(logits, targets, cap):
    lse = torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)
    return torch.empty((), dtype=torch.float32, device=logits.device), lse


@operator("cross_entropy_backward")
def _cross_entropy_backward(dloss: Tensor, logits: Tensor, targets: Tensor, lse: Tensor, cap: float) -> Tensor:
    """dlogits in the logits' dtype, dense."""
    out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    launch_backward(logits.contiguous(), targets.contiguous(), lse, dloss, out, cap, 1.0 / logits.shape[0])
    return out


@_cross_entropy_backward.register_fake
def _(dloss, logits, targets, lse, cap):
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


def _save(ctx, inputs, output):
    logits, targets, ctx.cap = inputs
    ctx.save_for_backward(logits, targets, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # or the log-sum-exp is given zeros


def _backward(ctx, dloss, dlse):
    del dlse
    return _cross_entropy_backward(dloss, *ctx.saved_tensors, ctx.cap), None, None


_cross_entropy.register_autograd(_backward, setup_context=_save)


@operator("linear_cross_entropy")
def _sliced(
    h: Tensor, weight: Tensor, targets: Tensor, cap: float, dtype: torch.dtype, rows: int, needs_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean loss, and with `needs_grad` its gradients dh and dW (float32), `rows` rows of logits at a time."""
    N = h.shape[0]
    loss, lse = torch.empty(2, N, dtype=torch.float32, device=h.device)
    dh, dweight = _like_sliced(h, weight, needs_grad)
    one, cast = torch.ones((), dtype=torch.float32, device=h.device), weight.to(dtype)
    for first in range(0, N, rows):
        part = slice(first, first + rows)
        inputs, aims = h[part].to(dtype), targets[part].contiguous()
        logits = inputs @ cast.t()
        launch_forward(logits, aims, loss[part], lse[part], cap)
        if needs_grad:
            launch_backward(logits, aims, lse[part], one, logits, cap, 1.0 / N)
            dh[part] = logits @ cast
            dweight += logits.t() @ inputs
    return loss.mean(), dh, dweight


def _like_sliced(h: Tensor, weight: Tensor, needs_grad: bool) -> tuple[Tensor, Tensor]:
    if not needs_grad:
        return h.new_empty(0), torch.empty(0, dtype=torch.float32, device=h.device)
    return h.new_empty(h.shape), torch.zeros(weight.shape, dtype=torch.float32, device=h.device)


@_sliced.register_fake
def _(h, weight, targets, cap, dtype, rows, needs_grad):
    return torch.empty((), dtype=torch.float32, device=h.device), *_like_sliced(h, weight, needs_grad)


def _save_sliced(ctx, inputs, output):
    ctx.save_for_backward(*output[1:])
    ctx.weight_dtype = inputs[1].dtype
    ctx.mark_non_differentiable(*output[1:])


def _backward_sliced(ctx, dloss, *unused):
    dh, dweight = ctx.saved_tensors
    return (dh * dloss).to(dh.dtype), (dweight * dloss).to(ctx.weight_dtype), *[None] * 5


_sliced.register_autograd(_backward_sliced, setup_context=_save_sliced)
