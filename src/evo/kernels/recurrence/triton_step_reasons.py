"""Why the stepwise Triton recurrence cannot run a problem. Importable without triton."""

from __future__ import annotations

from evo.kernels.recurrence.call import RecurrenceCall
from evo.kernels.triton_support import machine_reasons

MAX_DIM = 256
MAX_TOKENS = 16
"""Up to here one pass of dependent steps beats the fixed cost of a chunk."""


def reasons(problem: RecurrenceCall) -> list[str]:
    found = machine_reasons(problem.device, problem.dtype)
    if problem.time > MAX_TOKENS:
        found.append(f"steps are for up to {MAX_TOKENS} tokens, found {problem.time}")
    if problem.needs_grad:
        found.append("steps have no gradients")
    if max(problem.key_dim, problem.value_dim) > MAX_DIM:
        found.append(f"head dims up to {MAX_DIM}, found {problem.key_dim} and {problem.value_dim}")
    return found
