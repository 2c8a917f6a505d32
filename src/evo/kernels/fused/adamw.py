"""Clipping by the norm of all gradients and AdamW (arXiv 1711.05101), over any number of tensors in three launches.

The kernels find the tensors through a table of addresses, so parameters stay where they are and gradients need not be
gathered. The table may be filled after the launches were captured in a CUDA graph and before its first replay: that is
how gradients that the capture itself allocates are found.
"""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CHUNK = 2048
"""Elements of a piece; a program updates one."""
ALIGNMENT = 16
SUMMED = 1024
"""Pieces whose sums are added up at once."""


@dataclass(frozen=True)
class Rates:
    """What all tensors of a step share. clip: the largest norm of the whole gradient, None for any."""

    beta1: float
    beta2: float
    eps: float
    clip: float | None


class AdamWTable:
    """AdamW over dense float32 tensors of one device. Groups differ in learning rate and weight decay alone.

    parameters, first and second moments: in one order, `groups` the index of each one's group. steps: equal float32
    counters, dense, any number of them, counted up by every `launch`. decay_G: float32.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        moments: Sequence[tuple[Tensor, Tensor]],
        groups: Sequence[int],
        steps: Tensor,
        decay_G: Tensor,
        rates: Rates,
    ) -> None:
        self.parameters, self.moments, self.groups = list(parameters), list(moments), list(groups)
        self.steps, self.decay_G, self.rates = steps, decay_G, rates
        self.pieces = sum(-(-parameter.numel() // CHUNK) for parameter in self.parameters)
        self.table = torch.zeros(self.pieces, 7, dtype=torch.int64, device=steps.device)
        self.sums, self.scalars = (torch.zeros(size, device=steps.device) for size in (self.pieces, 3))
        self.gradients: list[Tensor] = []
        self.copies: dict[Tensor, Tensor] = {}

    def point_at(self, gradients: Sequence[Tensor], copies: Mapping[Tensor, Tensor] | None = None) -> None:
        """Fill the table with where everything lies now, and keep the gradients alive.

        copies: by parameter, a dense bfloat16 tensor that every step brings up to it.
        Raises ValueError for a tensor that is not dense, not float32, or not aligned to 16 bytes.
        """
        self.gradients, self.copies = list(gradients), dict(copies or {})
        rows: list[np.ndarray] = []
        for tensors in zip(self.parameters, self.gradients, self.moments, self.groups, strict=True):
            rows.append(_rows(tensors[0], tensors[1], *tensors[2], tensors[3], self.copies.get(tensors[0])))
        self.table.copy_(torch.from_numpy(np.concatenate(rows)))

    def let_go(self) -> None:
        """Keep the gradients alive no longer; `point_at` comes before the next step is taken."""
        self.gradients.clear()

    def gradient_norm(self) -> Tensor | None:
        """Of all gradients at the last step, before they were clipped; None where nothing is clipped."""
        return None if self.rates.clip is None else self.sums.sum().sqrt()

    def launch(self, lr_G: Tensor) -> None:
        """One step; lr_G float32. Nothing here depends on where the gradients lie."""
        from evo.kernels.fused import triton_adamw as kernels

        beta1, beta2, eps, clip = self.rates.beta1, self.rates.beta2, self.rates.eps, self.rates.clip
        if clip is not None:
            kernels.square_sums[(self.pieces,)](self.table, self.sums, CHUNK)
        kernels.numbers[(1,)](
            self.sums, self.pieces, self.steps, self.steps.numel(), self.scalars,
            math.inf if clip is None else clip, beta1, beta2, SUMMED,
        )  # fmt: skip
        kernels.update[(self.pieces,)](
            self.table, self.scalars, lr_G, self.decay_G, beta1, beta2, eps, CHUNK, num_warps=8
        )


def _rows(
    parameter: Tensor, gradient: Tensor, first: Tensor, second: Tensor, group: int, copy: Tensor | None
) -> np.ndarray:
    """The table rows of one parameter, (pieces, 7) int64."""
    tensors, count = (parameter, gradient, first, second), parameter.numel()
    for tensor in tensors:
        if tensor.dtype != torch.float32 or tensor.shape != parameter.shape:
            raise ValueError("parameters, gradients and moments must be float32 tensors of one shape")
        if not tensor.is_contiguous() or tensor.data_ptr() % ALIGNMENT:
            raise ValueError(f"parameters, gradients and moments must be dense and aligned to {ALIGNMENT} bytes")
    starts = np.arange(0, count, CHUNK, dtype=np.int64)
    rows = np.empty((len(starts), 7), dtype=np.int64)
    for field, tensor in enumerate(tensors):
        rows[:, field] = tensor.data_ptr() + 4 * starts
    rows[:, 4] = np.minimum(CHUNK, count - starts)
    rows[:, 5] = group
    rows[:, 6] = 0 if copy is None else _copy_address(copy, parameter) + 2 * starts
    return rows


def _copy_address(copy: Tensor, parameter: Tensor) -> int:
    is_fit = copy.dtype == torch.bfloat16 and copy.shape == parameter.shape and copy.is_contiguous()
    if not is_fit or copy.data_ptr() % ALIGNMENT:
        raise ValueError(f"a copy must be a dense bfloat16 tensor like its parameter, aligned to {ALIGNMENT} bytes")
    return copy.data_ptr()
