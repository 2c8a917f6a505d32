"""What an organism costs, as the plan counts it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from evo.compiler.plan import Plan

BYTES = 2
"""Bytes of a cached, carried or remembered value: bf16."""


@dataclass(frozen=True)
class Costs:
    """The derived costs of one organism; bytes are those of bf16."""

    parameters: int
    """Distinct parameters."""
    flops_per_token: float
    """Forward operations per token over a full context."""
    cache_bytes_per_token: int
    """Bytes that decoding adds for every further token, until windows are full."""
    state_bytes: int
    """Bytes of fixed size that decoding carries."""
    decode_bytes: int
    """Caches and states after a full context."""
    activation_bytes_per_token: int
    """Bytes kept for the backward pass per token."""

    def to_data(self) -> dict[str, float]:
        """The costs by name."""
        return asdict(self)


LABELS = {
    "parameters": "parameters",
    "flops_per_token": "FLOPs/token",
    "cache_bytes_per_token": "cache bytes/token",
    "state_bytes": "state bytes",
    "decode_bytes": "cache + state bytes, full context",
    "activation_bytes_per_token": "activation bytes/token",
}
"""How each cost is called in tables."""


def costs(plan: Plan) -> Costs:
    """The costs of a plan."""
    return Costs(
        parameters=plan.parameters,
        flops_per_token=plan.flops_per_token,
        cache_bytes_per_token=BYTES * plan.cache_per_token,
        state_bytes=BYTES * plan.state,
        decode_bytes=BYTES * plan.cache_values(plan.context),
        activation_bytes_per_token=BYTES * plan.activations_per_token,
    )


def ratio(before: float, after: float) -> float | None:
    """after / before; None where before is nothing and after is something."""
    if before == 0:
        return 1.0 if after == 0 else None
    return after / before
