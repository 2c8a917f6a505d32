"""Why the Triton recurrence cannot run a problem. Importable without triton."""

from __future__ import annotations

from evo.kernels.recurrence.call import RecurrenceCall
from evo.kernels.triton_support import machine_reasons

MAX_DIM = 256


def reasons(problem: RecurrenceCall) -> list[str]:
    found = machine_reasons(problem.device, problem.dtype)
    if max(problem.key_dim, problem.value_dim) > MAX_DIM:
        found.append(f"head dims up to {MAX_DIM}, found {problem.key_dim} and {problem.value_dim}")
    return found
