"""The decay and the input of an RG-LRU in one launch each way (De et al. 2402.19427, eq. 3 and 4)."""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.fused.add_norm import column_sums
from evo.kernels.fused.support import AUTO, chosen, table
from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.triton_support import DTYPES, dtype_name, next_pow2

SHARPNESS = 8.0
"""c of Griffin's eq. 4: how fast the decay falls with its gate."""
STEEPEST = 1000.0
"""The largest slope of sqrt(1 - a²), which would be infinite at a = 1 (RecurrentGemma)."""
PROGRAMS = 1056
"""Programs of a backward along the rows, as in `add_norm`."""
ELEMENTS = 1024
"""Of a tile: each of them holds some ten numbers in a backward."""


def lru_terms(
    u_BTC: Tensor,
    input_gate_HBTP: Tensor,
    decay_gate_HBTP: Tensor,
    input_bias_C: Tensor,
    decay_bias_C: Tensor,
    rate_C: Tensor,
    first_BT: Tensor,
    *,
    backend: str = AUTO,
) -> tuple[Tensor, Tensor]:
    """a = exp(-8 r softplus(rate)) with r = sigmoid(decay gate), and sqrt(1 - a²) sigmoid(input gate) u: the decay and
    the input of the scan, each (B, T, C), in float32 or wider.

    Args:
        u_BTC: what is scanned.
        input_gate_HBTP, decay_gate_HBTP: before their biases and sigmoids, by heads of P channels each, H P = C.
        input_bias_C, decay_bias_C, rate_C: a number a channel.
        first_BT: bool, the first tokens of documents: their input has no factor sqrt(1 - a²).
    """
    parts = (input_gate_HBTP, decay_gate_HBTP, input_bias_C, decay_bias_C, rate_C)
    known = all(dtype_name(part.dtype) in DTYPES for part in parts)
    run = chosen(LRU_TERMS, u_BTC, backend, "" if known else f"gates of {', '.join(DTYPES)}")
    return run(u_BTC, *parts, first_BT)


def _plain(
    u_BTC: Tensor, input_gate_HBTP: Tensor, decay_gate_HBTP: Tensor, input_bias_C: Tensor, decay_bias_C: Tensor,
    rate_C: Tensor, first_BT: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    compute = torch.promote_types(u_BTC.dtype, torch.float32)
    taken_BTC = _by_channel(input_gate_HBTP, input_bias_C).to(compute).sigmoid()
    kept_BTC = _by_channel(decay_gate_HBTP, decay_bias_C).to(compute).sigmoid()
    log_decay_BTC = -SHARPNESS * kept_BTC * torch.nn.functional.softplus(rate_C.to(compute))
    root_BTC: Tensor = _BoundedRoot.apply(-torch.expm1(2 * log_decay_BTC))  # pyright: ignore[reportAssignmentType]
    factor_BTC = torch.where(first_BT[..., None], 1.0, root_BTC)
    return log_decay_BTC.exp(), factor_BTC * taken_BTC * u_BTC.to(compute)


def _by_channel(gate_HBTP: Tensor, bias_C: Tensor) -> Tensor:
    return gate_HBTP.movedim(0, -2).flatten(-2) + bias_C


class _BoundedRoot(torch.autograd.Function):
    """sqrt(x) with a slope of at most STEEPEST."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sqrt()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        (root,), (gradient,) = ctx.saved_tensors, gradients
        return gradient / (2 * root).clamp_min(1 / STEEPEST)


def _fused(
    u_BTC: Tensor, input_gate_HBTP: Tensor, decay_gate_HBTP: Tensor, input_bias_C: Tensor, decay_bias_C: Tensor,
    rate_C: Tensor, first_BT: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    positive_C = torch.nn.functional.softplus(rate_C.float())
    return _terms(u_BTC, input_gate_HBTP, decay_gate_HBTP, input_bias_C, decay_bias_C, positive_C, first_BT)


@operator("lru_terms", folds(Fold((2, 0, 0, 0, 0, 0), (2, 2))))
def _terms(
    u: Tensor, input_gate: Tensor, decay_gate: Tensor, input_bias: Tensor, decay_bias: Tensor, rate: Tensor,
    first: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `lru_terms`, but for the rate, which is positive already."""
    from evo.kernels.fused import triton_lru_terms

    decay, out = _like(u)
    dense = (x.contiguous() for x in (u, input_gate, decay_gate, input_bias, decay_bias, rate, first))
    C, P = u.shape[-1], input_gate.shape[-1]
    rows, tile, cols = u.numel() // C, *_tile(C)
    triton_lru_terms.terms_forward[(-(-rows // tile), -(-C // cols))](
        *dense, decay, out, rows, C, P, SHARPNESS, tile, cols
    )
    return decay, out


def _tile(width: int) -> tuple[int, int]:
    """Rows and columns of a tile."""
    cols = min(256, next_pow2(width))
    return max(1, min(32, ELEMENTS // cols)), cols


def _like(u: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(torch.empty(u.shape, dtype=torch.float32, device=u.device) for _ in range(2))  # pyright: ignore[reportReturnType]


@_terms.register_fake
def _(u, input_gate, decay_gate, input_bias, decay_bias, rate, first):
    return _like(u)


@operator("lru_terms_backward", folds(Fold((2, 2, 2, 0, 0, 0, 0, 0), (2, 0, 0, 1))))
def _terms_backward(
    ddecay: Tensor, dout: Tensor, u: Tensor, input_gate: Tensor, decay_gate: Tensor, input_bias: Tensor,
    decay_bias: Tensor, rate: Tensor, first: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """du, the gradients of both gates, and those of the three vectors as rows of one float32 tensor."""
    from evo.kernels.fused import triton_lru_terms

    du, dinput_gate, ddecay_gate, dvectors = _gradients(u, input_gate, decay_gate)
    parts = (ddecay, dout, u, input_gate, decay_gate, input_bias, decay_bias, rate, first)
    C, P = u.shape[-1], input_gate.shape[-1]
    rows, tile, cols = u.numel() // C, *_tile(C)
    programs = min(PROGRAMS, -(-rows // tile))
    tiles = -(-rows // (tile * programs))
    shares = torch.empty(3, programs, C, dtype=torch.float32, device=u.device)
    triton_lru_terms.terms_backward[(programs, -(-C // cols))](
        *(x.contiguous() for x in parts), du, dinput_gate, ddecay_gate, shares, rows, C, P, tiles,
        SHARPNESS, STEEPEST, tile, cols,
    )  # fmt: skip
    column_sums(shares, dvectors)
    return du, dinput_gate, ddecay_gate, dvectors


def _gradients(u: Tensor, input_gate: Tensor, decay_gate: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Empty gradients, dense."""
    like = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (u, input_gate, decay_gate))
    return *like, torch.empty(3, u.shape[-1], dtype=torch.float32, device=u.device)  # pyright: ignore[reportReturnType]


@_terms_backward.register_fake
def _(ddecay, dout, u, input_gate, decay_gate, input_bias, decay_bias, rate, first):
    return _gradients(u, input_gate, decay_gate)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, ddecay, dout):
    inputs = ctx.saved_tensors
    du, dinput_gate, ddecay_gate, dvectors = _terms_backward(ddecay, dout, *inputs)
    vectors = (row.to(like.dtype) for row, like in zip(dvectors, inputs[3:6], strict=True))
    return du, dinput_gate, ddecay_gate, *vectors, None


_terms.register_autograd(_backward, setup_context=_save)


LRU_TERMS = table("lru terms", _fused, _plain)
