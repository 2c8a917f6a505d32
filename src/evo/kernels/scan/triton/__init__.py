"""The Triton backend of scans: why it cannot run a call, and how it does. Importing this loads no triton.

Holds: `operator` (the gradients as a custom operator, and the launches) and the kernels, `walk`.
"""

from __future__ import annotations

from torch import Tensor

from evo.kernels.dispatch import KernelCall
from evo.kernels.triton_support import machine_reasons


def reasons(call: KernelCall) -> list[str]:
    return machine_reasons(call.device, call.dtype)


def states(decay_BTX: Tensor, input_BTX: Tensor, before_BX: Tensor) -> Tensor:
    """See `reference.states`; float32. Records no graph."""
    from evo.kernels.scan.triton.operator import walked

    return walked(decay_BTX, input_BTX, before_BX)


def gradients(
    dstates_BTX: Tensor, decay_BTX: Tensor, before_BX: Tensor, states_BTX: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the decay, the input and the state before, in the shapes of those."""
    from evo.kernels.scan.triton.operator import scan_gradients

    return scan_gradients(dstates_BTX, decay_BTX, before_BX, states_BTX)
