"""Why the Triton short convolution cannot run a problem. Importable without triton."""

from __future__ import annotations

from evo.kernels.convolution.call import ConvolutionCall
from evo.kernels.triton_support import machine_reasons

MAX_TAPS = 8


def reasons(problem: ConvolutionCall) -> list[str]:
    found = machine_reasons(problem.device, problem.dtype)
    if problem.taps > MAX_TAPS:
        found.append(f"up to {MAX_TAPS} taps, found {problem.taps}")
    return found
