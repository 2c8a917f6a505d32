"""Launches of the walk, and its gradients as a custom operator: `evo::scan_gradients`."""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.scan.triton import walk

STEP = 8
"""Tokens loaded at once."""
COLS, WARPS = 64, 2
"""Channels of a program, one a thread."""


def walked(decay_BTX: Tensor, input_BTX: Tensor, before_BX: Tensor) -> Tensor:
    """All states."""
    found_BTX = torch.empty(input_BTX.shape, dtype=input_BTX.dtype, device=input_BTX.device)
    if found_BTX.numel():
        walk.forward[_grid(found_BTX)](
            decay_BTX.contiguous(), input_BTX.contiguous(), before_BX.contiguous(), found_BTX, *found_BTX.shape[1:],
            STEP, COLS, num_warps=WARPS,
        )  # fmt: skip
    return found_BTX


@operator("scan_gradients", folds(Fold((0, 0, 0, 0), (0, 0, 0))))
def scan_gradients(dstates: Tensor, decay: Tensor, before: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the decay (B, T, X), the input (B, T, X) and the state before (B, X); float32, as is all that is given."""
    ddecay, dinputs = (torch.empty(states.shape, dtype=states.dtype, device=states.device) for _ in range(2))
    if not states.numel():
        return ddecay, dinputs, torch.zeros_like(before)
    dbefore = torch.empty(before.shape, dtype=before.dtype, device=before.device)
    walk.backward[_grid(states)](
        dstates.contiguous(), decay.contiguous(), before.contiguous(), states, ddecay, dinputs, dbefore,
        *states.shape[1:], STEP, COLS, num_warps=WARPS,
    )  # fmt: skip
    return ddecay, dinputs, dbefore


@scan_gradients.register_fake
def _(dstates, decay, before, states):
    return states.new_empty(states.shape), states.new_empty(states.shape), before.new_empty(before.shape)


def _grid(states_BTX: Tensor) -> tuple[int, int]:
    B, _, X = states_BTX.shape
    return -(-X // COLS), B
