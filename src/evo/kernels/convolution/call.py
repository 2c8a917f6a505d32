"""What the dispatcher knows about a short convolution: shapes, dtype, activation; no tensors."""

from __future__ import annotations

from dataclasses import dataclass

from evo.kernels.dispatch import KernelCall

ACTIVATIONS = (None, "silu")


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
