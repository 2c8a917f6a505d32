"""The table of recurrence backends and their order per device."""

from __future__ import annotations

from torch import Tensor

from evo.kernels.dispatch import Backend, Table, always
from evo.kernels.recurrence import chunked, reference, triton
from evo.kernels.recurrence.call import RecurrenceCall
from evo.kernels.recurrence.documents import segment_aware

Outcome = tuple[Tensor, Tensor]


def run_reference(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict) -> Outcome:
    """The equation, one token at a time."""
    return reference.recurrence(q, k, v, scale=scale, **parts)


def run_chunked(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict) -> Outcome:
    """The chunked form in plain torch."""
    return chunked.recurrence(q, k, v, scale=scale, chunk=problem.chunk, **parts)


TABLE = Table(
    family="recurrence",
    backends=(
        Backend("step", segment_aware(triton.run_step), triton.step_reasons),
        Backend("triton", segment_aware(triton.run), triton.reasons),
        Backend("chunked", segment_aware(run_chunked), always),
        Backend("reference", run_reference, always),
    ),
    priority={"cpu": ("chunked", "reference"), "cuda": ("step", "triton", "chunked", "reference")},
)
