"""The Triton backend of attention: why it cannot run a call, and how it does. Importing this loads no triton.

Holds: `operator` (custom operators and their gradients), `launch` (what kernels are handed), `launch_cache`, `tiles`
(their sizes); the kernels `forward`, `backward` and `probe`, and what they share, `stencil_tiles` and `tile_ops`.
"""

from __future__ import annotations

from torch import Tensor

from evo.kernels.attention.call import AttentionCall, AttentionExtras
from evo.kernels.triton_support import machine_reasons

MAX_DIM = 256


def reasons(call: AttentionCall) -> list[str]:
    found = machine_reasons(call.device, call.dtype)
    found += call.equation_reasons()
    if call.has_keep:
        found.append("multiplies no probabilities")
    if max(call.key_dim, call.value_dim) > MAX_DIM:
        found.append(f"head dims up to {MAX_DIM}, found {call.key_dim} and {call.value_dim}")
    if call.has_key_positions and call.needs_grad:
        found.append("explicit key positions (a ring-buffer cache) have no backward in the kernel")
    return found


def run(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, extras: AttentionExtras, scale: float) -> Tensor:
    """The signature that all backends share; triton is imported here and not before."""
    from evo.kernels.attention.triton.operator import run_with_lse

    return run_with_lse(call, q, k, v, extras, scale)[0]
