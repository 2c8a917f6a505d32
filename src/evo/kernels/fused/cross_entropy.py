"""Mean cross-entropy in nats, plain or weighted, with no float32 copy of the logits.

Of many logits, only a slice is ever in memory.
"""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.autocast import product_dtype
from evo.kernels.fused.support import AUTO, chosen, table
from evo.kernels.operators import needs_grad, operator
from evo.kernels.triton_support import dense, next_pow2

SLICE = 1 << 25
"""How many logits are made at once; more are made and used up in slices, as Liger does (arXiv 2410.10989)."""


def soft_capped(x: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(x / cap) (Gemma 2), or x."""
    return x if cap is None else cap * torch.tanh(x / cap)


def cross_entropy(
    logits_NV: Tensor,
    targets_N: Tensor,
    soft_cap: float | None = None,
    *,
    weights_N: Tensor | None = None,
    backend: str = AUTO,
) -> Tensor:
    """Mean of -log softmax(capped logits)[target] over N >= 1 rows; targets int64 in [0, V). A float32 scalar.

    weights_N: float32, at least 0, no gradient. The mean is then sum(weights losses) / sum(weights), 0 where all are 0.
    Raises ValueError for a soft cap of 0 or weights of another shape than the targets, and as `chosen` does.
    """
    _check(soft_cap, targets_N, weights_N)
    shares_N = None if weights_N is None else _shares(weights_N)
    return chosen(CROSS_ENTROPY, logits_NV, backend, _only(logits_NV, targets_N))(
        logits_NV, targets_N, shares_N, soft_cap
    )


def linear_cross_entropy(
    h_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    soft_cap: float | None = None,
    *,
    bias_V: Tensor | None = None,
    weights_N: Tensor | None = None,
    project: Callable[[Tensor, Tensor, Tensor | None], Tensor] = F.linear,
    backend: str = AUTO,
) -> Tensor:
    """`cross_entropy` of the logits h W^T + b. Where there are more than `SLICE` of them, they never exist together.

    project: makes them, where they do.
    """
    _check(soft_cap, targets_N, weights_N)
    is_large = h_ND.shape[0] * weight_VD.shape[0] > SLICE
    if not is_large or chosen(CROSS_ENTROPY, h_ND, backend, _only(h_ND, targets_N)) is not _fused:
        logits_NV = project(h_ND, weight_VD, bias_V)
        return cross_entropy(logits_NV, targets_N, soft_cap, weights_N=weights_N, backend=backend)
    if bias_V is not None:  # one more channel, which is always one
        h_ND = torch.cat((h_ND, torch.ones_like(h_ND[:, :1])), dim=1)
        weight_VD = torch.cat((weight_VD, bias_V[:, None].to(weight_VD.dtype)), dim=1)
    dtype, rows, keep = product_dtype(h_ND), SLICE // weight_VD.shape[0], needs_grad(h_ND, weight_VD)
    shares_N = None if weights_N is None else _shares(weights_N)
    return _sliced(h_ND, weight_VD, targets_N, shares_N, soft_cap or 0.0, dtype, rows, keep)[0]


def _check(soft_cap: float | None, targets_N: Tensor, weights_N: Tensor | None) -> None:
    """Of a cap of 0 the plain form would divide by 0, and to the kernels 0 means no cap."""
    if soft_cap == 0:
        raise ValueError("soft_cap must not be 0; None is no cap")
    if weights_N is not None and weights_N.shape != targets_N.shape:
        raise ValueError(f"weights_N must be {tuple(targets_N.shape)}, found {tuple(weights_N.shape)}")


def _shares(weights_N: Tensor) -> Tensor:
    """What each row counts in a weighted mean, float32: weights / sum(weights), 0 where all are 0. The host waits for
    nothing."""
    weights_N = weights_N.detach().float()
    total = weights_N.sum()
    return weights_N / torch.where(total == 0, 1.0, total)


def _fused(logits_NV: Tensor, targets_N: Tensor, shares_N: Tensor | None, soft_cap: float | None) -> Tensor:
    return _cross_entropy(logits_NV, targets_N, shares_N, soft_cap or 0.0)[0]


def _plain(logits_NV: Tensor, targets_N: Tensor, shares_N: Tensor | None, soft_cap: float | None) -> Tensor:
    capped_NV = soft_capped(logits_NV, soft_cap).float()
    if shares_N is None:
        return F.cross_entropy(capped_NV, targets_N)
    return (F.cross_entropy(capped_NV, targets_N, reduction="none") * shares_N).sum()


def _only(x_ND: Tensor, targets_N: Tensor) -> str:
    """What the kernels take, if these are not it."""
    return "" if targets_N.shape == x_ND.shape[:-1] else "a target for each row"


def _tile(V: int) -> tuple[int, int]:
    cols = min(1024, next_pow2(V))
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
    logits: Tensor, targets: Tensor, lse: Tensor, shares: Tensor | None, dloss: Tensor, out: Tensor, cap: float,
    scale: float,
) -> None:  # fmt: skip
    """Fill out (N, V), dense or the logits themselves, with their gradient; dloss is a float32 scalar.

    shares: what each row counts, (N,) float32 dense; without them every row counts `scale`.
    """
    from evo.kernels.fused import triton_cross_entropy as kernels

    N, V = logits.shape
    rows, cols = _tile(V)
    kernels.entropy_backward[(-(-N // rows), -(-V // cols))](
        logits, targets, lse, shares, dloss, out, N, V, logits.stride(0), cap or 1.0, scale, bool(cap),
        shares is not None, rows, cols,
    )  # fmt: skip


@operator("cross_entropy")
def _cross_entropy(logits: Tensor, targets: Tensor, shares: Tensor | None, cap: float) -> tuple[Tensor, Tensor]:
    """The mean loss (with shares, the sum of the losses by them) and each row's log-sum-exp, float32. cap 0: none."""
    loss, lse = (torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device) for _ in range(2))
    launch_forward(logits.contiguous(), targets.contiguous(), loss, lse, cap)
    return _mean(loss, shares), lse


def _mean(loss_N: Tensor, shares_N: Tensor | None) -> Tensor:
    return loss_N.mean() if shares_N is None else (loss_N * shares_N).sum()


@_cross_entropy.register_fake
def _(logits, targets, shares, cap):
    lse = torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)
    return torch.empty((), dtype=torch.float32, device=logits.device), lse


@operator("cross_entropy_backward")
def _cross_entropy_backward(
    dloss: Tensor, logits: Tensor, targets: Tensor, shares: Tensor | None, lse: Tensor, cap: float
) -> Tensor:
    """dlogits in the logits' dtype, dense."""
    out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    logits, targets, scale = logits.contiguous(), targets.contiguous(), 1.0 / logits.shape[0]
    launch_backward(logits, targets, lse, dense(shares), dloss, out, cap, scale)
    return out


@_cross_entropy_backward.register_fake
def _(dloss, logits, targets, shares, lse, cap):
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


def _save(ctx, inputs, output):
    logits, targets, shares, ctx.cap = inputs
    ctx.save_for_backward(logits, targets, shares, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # or the log-sum-exp is given zeros


def _backward(ctx, dloss, dlse):
    del dlse
    return _cross_entropy_backward(dloss, *ctx.saved_tensors, ctx.cap), None, None, None


_cross_entropy.register_autograd(_backward, setup_context=_save)


@operator("linear_cross_entropy")
def _sliced(
    h: Tensor, weight: Tensor, targets: Tensor, shares: Tensor | None, cap: float, dtype: torch.dtype, rows: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The loss as `_cross_entropy`'s, and with `keep` its gradients dh and dW (float32), `rows` rows of logits at a
    time."""
    N = h.shape[0]
    loss, lse = torch.empty(2, N, dtype=torch.float32, device=h.device)
    dh, dweight = _like_sliced(h, weight, keep)
    shares = dense(shares)
    one, cast = torch.ones((), dtype=torch.float32, device=h.device), weight.to(dtype)
    for first in range(0, N, rows):
        part = slice(first, first + rows)
        inputs, aims = h[part].to(dtype), targets[part].contiguous()
        logits = inputs @ cast.t()
        launch_forward(logits, aims, loss[part], lse[part], cap)
        if keep:
            counts = None if shares is None else shares[part]
            launch_backward(logits, aims, lse[part], counts, one, logits, cap, 1.0 / N)
            dh[part] = logits @ cast
            dweight += logits.t() @ inputs
    return _mean(loss, shares), dh, dweight


def _like_sliced(h: Tensor, weight: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    if not keep:
        return h.new_empty(0), torch.empty(0, dtype=torch.float32, device=h.device)
    return h.new_empty(h.shape), torch.zeros(weight.shape, dtype=torch.float32, device=h.device)


@_sliced.register_fake
def _(h, weight, targets, shares, cap, dtype, rows, keep):
    return torch.empty((), dtype=torch.float32, device=h.device), *_like_sliced(h, weight, keep)


def _save_sliced(ctx, inputs, output):
    ctx.save_for_backward(*output[1:])
    ctx.weight_dtype = inputs[1].dtype
    ctx.mark_non_differentiable(*output[1:])


def _backward_sliced(ctx, dloss, *unused):
    dh, dweight = ctx.saved_tensors
    return (dh * dloss).to(dh.dtype), (dweight * dloss).to(ctx.weight_dtype), *[None] * 6


_sliced.register_autograd(_backward_sliced, setup_context=_save_sliced)


CROSS_ENTROPY = table("cross-entropy", _fused, _plain)
