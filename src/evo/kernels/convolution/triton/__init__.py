"""The Triton backend of short convolutions: why it cannot run a call, and how it does. Importing this loads no triton.

Holds: `operator` (the custom operator and its gradients) and the kernels, `short`.
"""

from __future__ import annotations

from torch import Tensor

from evo.kernels.convolution.call import ConvolutionCall, ConvolutionExtras
from evo.kernels.documents import document_numbers
from evo.kernels.triton_support import machine_reasons

MAX_TAPS = 8


def reasons(call: ConvolutionCall) -> list[str]:
    found = machine_reasons(call.device, call.dtype)
    if call.taps > MAX_TAPS:
        found.append(f"up to {MAX_TAPS} taps, found {call.taps}")
    return found


def run(call: ConvolutionCall, x: Tensor, weight: Tensor, extras: ConvolutionExtras) -> tuple[Tensor, Tensor]:
    """The signature that all backends share; triton is imported here and not before."""
    from evo.kernels.convolution.triton.operator import short_convolution

    segments_BT = extras.segments_BT
    numbers = None if segments_BT is None else document_numbers(segments_BT)
    return short_convolution(x, weight, extras.bias_D, extras.state_BWD, numbers, call.activation == "silu")
