"""act(gate) * up in one launch each way (Shazeer 2020, arXiv 2002.05202)."""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.fused.support import AUTO, chosen, table
from evo.kernels.members import row_folds
from evo.kernels.operators import operator
from evo.kernels.packed_grad import columns
from evo.kernels.triton_support import last_dim_contiguous, next_pow2

WHOLE = 1024
"""The widest row that is one tile's, however many columns it leaves empty; of narrow ones 128 are the fewest."""


def relu2(x: Tensor) -> Tensor:
    """relu(x)² (So et al. 2021)."""
    return F.relu(x).square()


def gelu_tanh(x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x³))) (Hendrycks & Gimpel 2016): GPT-2's."""
    return F.gelu(x, approximate="tanh")


def gelu_quick(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x) (Hendrycks & Gimpel 2016): CLIP's."""
    return x * torch.sigmoid(1.702 * x)


def identity(x: Tensor) -> Tensor:
    """x: a gated product of two linear maps."""
    return x


ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": relu2,
    "gelu": F.gelu,
    "silu": F.silu,
    "gelu_tanh": gelu_tanh,
    "gelu_quick": gelu_quick,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "identity": identity,
}
"""Functions of one value, by the word that the language and the kernels have for each."""


def gated(gate: Tensor, up: Tensor, act: str, *, backend: str = AUTO) -> Tensor:
    """act(gate) * up, (..., F) each of one dtype -> (..., F) in it. `act` is a key of ACTS."""
    if act not in ACTS:
        raise KeyError(act)
    is_pair = gate.shape == up.shape and gate.dtype == up.dtype
    return chosen(GATED, gate, backend, "" if is_pair else "gate and up of one shape and dtype")(gate, up, act)


def _plain(gate: Tensor, up: Tensor, act: str) -> Tensor:
    return ACTS[act](gate) * up


def _tiles(gate: Tensor) -> tuple[int, int, tuple[int, int]]:
    """Rows and columns of a tile, and the grid. Whole rows, or the widest tile that leaves the fewest columns empty."""
    width = gate.shape[-1]
    sides = (512, 256, 128) if width > WHOLE else (max(128, next_pow2(width)),)
    cols = min(sides, key=lambda size: -(-width // size) * size)
    rows = 2048 // cols
    return rows, cols, (-(-(gate.numel() // width) // rows), -(-width // cols))


def _unit(*counts: int) -> int:
    """The largest power of two up to 8 that divides all."""
    return math.gcd(8, *counts)


def _flat(x: Tensor) -> Tensor:
    """(rows, F) with dense columns."""
    return last_dim_contiguous(x.reshape(-1, x.shape[-1]))


@operator("gated", row_folds((0, 0), (0,)))
def _gated(gate: Tensor, up: Tensor, act: str) -> Tensor:
    """act(gate) * up, dense."""
    from evo.kernels.fused import triton_gated

    out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    rows, cols, grid = _tiles(gate)
    g, u = _flat(gate), _flat(up)
    (N, width), strides = g.shape, (g.stride(0), u.stride(0))
    unit = _unit(width, *strides)
    triton_gated.gated_forward[grid](
        g, u, out, N, width // unit, *(stride // unit for stride in strides), act, unit, rows, cols
    )
    return out


@_gated.register_fake
def _(gate, up, act):
    return torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)


@operator("gated_backward", row_folds((0, 0, 0), (0,)))
def _gated_backward(dout: Tensor, gate: Tensor, up: Tensor, act: str) -> Tensor:
    """dgate and dup, (..., 2 F), by the packed-gradient contract."""
    from evo.kernels.fused import triton_gated

    packed = _empty_packed(gate)
    rows, cols, grid = _tiles(gate)
    g, u = _flat(gate), _flat(up)
    (N, width), strides = g.shape, (g.stride(0), u.stride(0))
    unit = _unit(width, *strides)
    dgate, dup = packed.view(N, 2 * width).split(width, -1)
    triton_gated.gated_backward[grid](
        dout.contiguous(), g, u, dgate, dup, N, width // unit, *(stride // unit for stride in strides),
        act, unit, rows, cols,
    )  # fmt: skip
    return packed


def _empty_packed(gate: Tensor) -> Tensor:
    return torch.empty(*gate.shape[:-1], 2 * gate.shape[-1], dtype=gate.dtype, device=gate.device)


@_gated_backward.register_fake
def _(dout, gate, up, act):
    return _empty_packed(gate)


def _save(ctx, inputs, output):
    gate, up, ctx.act = inputs
    ctx.save_for_backward(gate, up)


def _backward(ctx, dout):
    gate, up = ctx.saved_tensors
    width = gate.shape[-1:]
    return *columns(_gated_backward(dout, gate, up, ctx.act), (width, width)), None


_gated.register_autograd(_backward, setup_context=_save)


GATED = table("gated", _gated, _plain)
