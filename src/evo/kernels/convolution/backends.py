"""The table of short convolution backends and their order per device."""

from __future__ import annotations

from torch import Tensor

from evo.kernels.convolution import reference, triton
from evo.kernels.convolution.call import ConvolutionCall, ConvolutionExtras
from evo.kernels.dispatch import Backend, Table, always

Outcome = tuple[Tensor, Tensor]


def run_reference(call: ConvolutionCall, x: Tensor, weight: Tensor, extras: ConvolutionExtras) -> Outcome:
    """One multiply and add a tap."""
    return reference.short_convolution(x, weight, activation=call.activation, **extras._asdict())


TABLE = Table(
    family="short convolution",
    backends=(
        Backend("triton", triton.run, triton.reasons),
        Backend("reference", run_reference, always),
    ),
    priority={"cpu": ("reference",), "cuda": ("triton", "reference")},
)
