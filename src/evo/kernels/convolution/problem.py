"""What the dispatcher knows about a short convolution: shapes, dtype, activation; no tensors."""

from __future__ import annotations

from dataclasses import dataclass

from evo.kernels.dispatch import Table

ACTIVATIONS = (None, "silu")


@dataclass(frozen=True)
class ConvolutionProblem:
    """One `short_convolution` call. `activation` is one of ACTIVATIONS; `needs_grad`: a backward may follow."""

    device: str
    dtype: str
    batch: int
    time: int
    width: int
    taps: int
    activation: str | None = None
    has_state: bool = False
    has_segments: bool = False
    needs_grad: bool = False

    @property
    def table(self) -> Table:
        from evo.kernels.convolution.backends import TABLE

        return TABLE
