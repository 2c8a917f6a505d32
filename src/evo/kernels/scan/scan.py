"""`scan`: the one entrance to first-order recurrences channel by channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evo.kernels.dispatch import AUTO, Backend, KernelCall, Table, always, choose
from evo.kernels.documents import check_segments, document_starts
from evo.kernels.members import Fold, folds
from evo.kernels.operators import is_inlining, operator
from evo.kernels.scan import doubling, reference, sequential, triton
from evo.kernels.triton_support import dtype_name


@dataclass(frozen=True, kw_only=True)
class ScanCall(KernelCall):
    """One `scan` call of `channels` recurrences a row."""

    family: str = "scan"
    batch: int
    time: int
    channels: int


def _no_loop(call: ScanCall) -> list[str]:
    """Why a loop over the tokens is not the way."""
    reasons: list[str] = []
    if call.device != "cpu":
        reasons.append("a launch a token")
    if call.batch * call.channels < sequential.LEAST:
        reasons.append(f"fewer than {sequential.LEAST} numbers a token")
    if torch.compiler.is_compiling() or is_inlining():
        reasons.append("a trace would hold every token")
    return reasons


TABLE = Table(
    family="scan",
    backends=(
        Backend("triton", triton.states, triton.reasons),
        Backend("sequential", sequential.states, _no_loop),
        Backend("doubling", doubling.states, always),
        Backend("reference", reference.states, always),
    ),
    priority={"cpu": ("sequential", "doubling", "reference"), "cuda": ("triton", "doubling", "reference")},
)


def scan(
    decay_BTX: Tensor,
    input_BTX: Tensor,
    before_BX: Tensor | None = None,
    *,
    segments_BT: Tensor | None = None,
    backend: str = AUTO,
) -> tuple[Tensor, Tensor]:
    """h_t = decay_t h_{t-1} + input_t: all states (B, T, X), and the last (B, X).

    Args:
        decay_BTX, input_BTX: of one shape; computed in the wider of their dtype and float32.
        before_BX: h_{-1}, zeros if left out; the first document's.
        segments_BT: integer ids of packed documents: where the id changes, h begins at zero.

    Raises:
        ValueError: shapes that do not fit.
    """
    call = plan(decay_BTX, input_BTX)
    compute = torch.promote_types(input_BTX.dtype, torch.float32)
    decay_BTX, input_BTX = decay_BTX.to(compute), input_BTX.to(compute)
    if before_BX is None:
        before_BX = input_BTX.new_zeros(input_BTX.shape[0], input_BTX.shape[2])
    if segments_BT is not None:
        check_segments(segments_BT, input_BTX.shape[:2])
        decay_BTX = decay_BTX.masked_fill(document_starts(segments_BT)[..., None], 0.0)
    before_BX = before_BX.to(compute)
    states_BTX = _scan(decay_BTX, input_BTX, before_BX, choose(TABLE, call, backend).backend.name)
    return states_BTX, states_BTX[:, -1] if call.time else before_BX


def plan(decay_BTX: Tensor, input_BTX: Tensor) -> ScanCall:
    """What these tensors (meta tensors do) ask for."""
    if decay_BTX.shape != input_BTX.shape or input_BTX.ndim != 3:
        raise ValueError(f"decay and input must both be (B, T, X), found {decay_BTX.shape} and {input_BTX.shape}")
    B, T, X = input_BTX.shape
    return ScanCall(device=input_BTX.device.type, dtype=dtype_name(input_BTX.dtype), batch=B, time=T, channels=X)


@operator("scan", folds(Fold((0, 0, 0), (0,))))
def _scan(decay: Tensor, inputs: Tensor, before: Tensor, backend: str) -> Tensor:
    """All states, on a backend by name."""
    return TABLE.named(backend).run(decay, inputs, before)


@_scan.register_fake
def _(decay: Tensor, inputs: Tensor, before: Tensor, backend: str) -> Tensor:
    return torch.empty_like(inputs)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    decay, _, before, ctx.backend = inputs
    ctx.save_for_backward(decay, before, output)


def _backward(ctx: Any, dstates: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    """g_t = dh_t + decay_{t+1} g_{t+1} backwards; it is the input's gradient, and times h_{t-1} that of the decay."""
    decay, before, states = ctx.saved_tensors
    if ctx.backend == "triton":
        ddecay, dinputs, dbefore = triton.gradients(dstates, decay, before, states)
        return ddecay, dinputs, dbefore, None
    following = torch.cat((decay[:, 1:], torch.zeros_like(decay[:, :1])), dim=1)
    g = _scan(following.flip(1), dstates.flip(1), torch.zeros_like(before), ctx.backend).flip(1)
    earlier = torch.cat((before[:, None], states[:, :-1]), dim=1)
    return g * earlier, g, decay[:, 0] * g[:, 0], None


_scan.register_autograd(_backward, setup_context=_save)
