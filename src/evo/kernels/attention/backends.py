"""The table of attention backends and their order per device."""

from __future__ import annotations

from torch import Tensor

from evo.kernels.attention import reference, sdpa
from evo.kernels.attention.problem import AttentionProblem
from evo.kernels.dispatch import Backend, Table, always


def run_reference(problem: AttentionProblem, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict) -> Tensor:
    """The equation, through the signature that all backends share."""
    return reference.attention(q, k, v, stencil=problem.stencil, scale=scale, **parts)


TABLE = Table(
    family="attention",
    backends=(
        Backend("sdpa", "evo.kernels.attention.sdpa:run", sdpa.reasons),
        Backend("reference", "evo.kernels.attention.backends:run_reference", always),
    ),
    priority={"cpu": ("sdpa", "reference"), "cuda": ("sdpa", "reference")},
)
