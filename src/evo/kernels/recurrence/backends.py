"""The table of recurrence backends and their order per device."""

from __future__ import annotations

from torch import Tensor

from evo.kernels.dispatch import Backend, Table, always
from evo.kernels.recurrence import chunked, reference, triton_reasons, triton_step_reasons
from evo.kernels.recurrence.call import RecurrenceCall
from evo.kernels.recurrence.documents import apart

Outcome = tuple[Tensor, Tensor]


def run_reference(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict) -> Outcome:
    """The equation, one token at a time."""
    return reference.recurrence(q, k, v, scale=scale, **parts)


def run_chunked(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict) -> Outcome:
    """The chunked form in plain torch."""
    return chunked.recurrence(q, k, v, scale=scale, chunk=problem.chunk, **parts)


def run_triton(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict) -> Outcome:
    """The Triton kernels; triton is imported here and not before."""
    from evo.kernels.recurrence.triton_operator import run

    return run(problem, q, k, v, scale=scale, parts=parts)


def run_step(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict) -> Outcome:
    """The equation in one Triton launch, for the few tokens of a decoding step."""
    from evo.kernels.recurrence.triton_step_operator import run

    return run(problem, q, k, v, scale=scale, parts=parts)


TABLE = Table(
    family="recurrence",
    backends=(
        Backend("step", apart(run_step), triton_step_reasons.reasons),
        Backend("triton", apart(run_triton), triton_reasons.reasons),
        Backend("chunked", apart(run_chunked), always),
        Backend("reference", run_reference, always),
    ),
    priority={"cpu": ("chunked", "reference"), "cuda": ("step", "triton", "chunked", "reference")},
)
