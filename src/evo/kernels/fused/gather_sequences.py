"""The sequences of a training step, cut from a text that lies on the device."""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.dispatch import AUTO, choose
from evo.kernels.fused.support import FusedCall, table
from evo.kernels.operators import operator

COLS = 256


def gather_sequences(
    text: Tensor, starts_SB: Tensor, row_1: Tensor, context: int, *, backend: str = AUTO
) -> tuple[Tensor, Tensor]:
    """Inputs and targets (B, T) int64, T = `context`: text (bytes,) uint8 from starts_SB[row_1] on, and a byte later.

    starts_SB: (S, B) int64, dense, each at most bytes - T - 1. row_1: (1,) int64 on the device, which no host reads.
    """
    # Bytes are no dtype of the other kernels'; this one has no other.
    call = FusedCall(family=GATHER_SEQUENCES.family, device=text.device.type, dtype="float32")
    return choose(GATHER_SEQUENCES, call, backend).backend.run(text, starts_SB, row_1, context)


def _plain(text: Tensor, starts_SB: Tensor, row_1: Tensor, context: int) -> tuple[Tensor, Tensor]:
    starts_B1 = starts_SB.index_select(0, row_1).view(-1, 1)
    rows_BT = text[starts_B1 + torch.arange(context + 1, device=text.device)].long()
    return rows_BT[:, :-1], rows_BT[:, 1:]


@operator("gather_sequences")
def _gather_sequences(text: Tensor, starts: Tensor, row: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """As `gather_sequences`, dense."""
    from evo.kernels.fused import triton_gather_sequences

    inputs, targets = _empty(text, starts, context)
    batch = starts.shape[1]
    triton_gather_sequences.gather_sequences[(batch, -(-context // COLS))](
        text, starts, row, inputs, targets, batch, context, COLS
    )
    return inputs, targets


def _empty(text: Tensor, starts: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Room for both."""
    inputs, targets = (torch.empty(starts.shape[1], context, dtype=torch.int64, device=text.device) for _ in range(2))
    return inputs, targets


@_gather_sequences.register_fake
def _(text, starts, row, context):
    return _empty(text, starts, context)


GATHER_SEQUENCES = table("gather_sequences", _gather_sequences, _plain)
