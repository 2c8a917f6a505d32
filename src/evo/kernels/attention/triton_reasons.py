"""Why the Triton attention cannot run a problem. Importable without triton."""

from __future__ import annotations

from evo.kernels.attention.problem import AttentionCall
from evo.kernels.triton_support import machine_reasons

MAX_DIM = 256


def reasons(problem: AttentionCall) -> list[str]:
    found = machine_reasons(problem.device, problem.dtype)
    if max(problem.key_dim, problem.value_dim) > MAX_DIM:
        found.append(f"head dims up to {MAX_DIM}, found {problem.key_dim} and {problem.value_dim}")
    if problem.has_key_positions and problem.needs_grad:
        found.append("explicit key positions (a ring-buffer cache) have no backward in the kernel")
    return found
