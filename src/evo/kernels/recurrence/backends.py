"""The table of recurrence backends and their order per device."""

from __future__ import annotations

from torch import Tensor

from evo.kernels.dispatch import Backend, Table, always
from evo.kernels.recurrence import chunked, reference, triton
from evo.kernels.recurrence.call import RecurrenceCall, RecurrenceExtras
from evo.kernels.recurrence.documents import segment_aware

Outcome = tuple[Tensor, Tensor]


def run_reference(
    call: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, extras: RecurrenceExtras, scale: float
) -> Outcome:
    """The equation, one token at a time."""
    return reference.recurrence(q, k, v, scale=scale, **extras._asdict())


def run_chunked(
    call: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, extras: RecurrenceExtras, scale: float
) -> Outcome:
    """The chunked form in plain torch."""
    given = extras._asdict()
    del given["segments_BT"]  # which `segment_aware` has turned into decays
    return chunked.recurrence(q, k, v, scale=scale, chunk=call.chunk, **given)


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
