"""What a short convolution has besides x and the taps; and what the dispatcher knows about it, which is no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from evo.kernels.dispatch import KernelCall

ACTIVATIONS = (None, "silu")


class ConvolutionExtras(NamedTuple):
    """What a call of `short_convolution` may have besides x and the taps, under its names."""

    bias_D: Tensor | None = None
    state_BWD: Tensor | None = None
    segments_BT: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ConvolutionCall(KernelCall):
    """One `short_convolution` call. `activation` is one of ACTIVATIONS; `needs_grad`: a backward may follow."""

    family: str = "short convolution"
    batch: int
    time: int
    width: int
    taps: int
    activation: str | None = None
    has_state: bool = False
    has_segments: bool = False
    needs_grad: bool = False
