"""Which backend runs a kernel call, and why the others do not: the one decider of this package.

A family (attention, recurrence, fused operations) owns a table of `Backend` rows and a priority list per device. A call
is described by a small frozen dataclass of shapes, dtypes and features, never tensors, so the choice is made once for
all calls alike. `evo.kernels.tables` lists the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from evo.kernels.operators import in_transform, is_inlining

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class KernelCall:
    """What every family tells the dispatcher about a call: its own name, the tensors' device type, and their dtype as
    `bfloat16`."""

    family: str
    device: str
    dtype: str


@dataclass(frozen=True)
class Backend:
    """One way to run a family.

    `run` imports what it needs when called. `reasons` answers why it cannot run a call (empty: it can).
    """

    name: str
    run: Callable
    reasons: Callable[[Any], list[str]]


@dataclass(frozen=True, eq=False)
class Table:
    """A family's backends and, per device type, the order in which they are tried."""

    family: str
    backends: Sequence[Backend]
    priority: Mapping[str, Sequence[str]]

    def named(self, name: str) -> Backend:
        for backend in self.backends:
            if backend.name == name:
                return backend
        known = ", ".join(b.name for b in self.backends)
        raise BackendError(f"{self.family}: unknown backend {name!r}; known: {known}")

    def order(self, device: str) -> list[Backend]:
        return [self.named(name) for name in self.priority.get(device, self.priority["cpu"])]


@dataclass(frozen=True)
class Choice:
    """The backend that will run, and for each that stood before it in the list, why it will not."""

    backend: Backend
    rejected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class BackendError(ValueError):
    """A backend asked for by name cannot run the call. It is never replaced silently."""


def choose(table: Table, call: KernelCall, requested: str = AUTO) -> Choice:
    """The backend of `table` for `call`: the first without a reason against it, or exactly the one `requested`.

    Made once for all calls alike; made anew while something traces, since the graph keeps it, and inside a transform of
    torch.func, which not every backend takes.
    Raises `BackendError` when the requested backend is unknown or has a reason against the call.
    """
    if torch.compiler.is_compiling() or in_transform() or is_inlining():
        return _choose(table, call, requested)
    return _remembered(table, call, requested)


def _choose(table: Table, call: KernelCall, requested: str) -> Choice:
    if requested != AUTO:
        return _explicit(table, call, requested)
    rejected: dict[str, tuple[str, ...]] = {}
    for backend in table.order(call.device):
        reasons = backend.reasons(call)
        if not reasons:
            return Choice(backend, rejected)
        rejected[backend.name] = tuple(reasons)
    lines = "; ".join(f"{name}: {', '.join(why)}" for name, why in rejected.items())
    raise BackendError(f"{table.family}: no backend runs {call}: {lines}")


_remembered = lru_cache(maxsize=4096)(_choose)


def _explicit(table: Table, call: KernelCall, requested: str) -> Choice:
    backend = table.named(requested)
    reasons = backend.reasons(call)
    if reasons:
        raise BackendError(f"{table.family}: backend {requested!r} cannot run this call: {'; '.join(reasons)}")
    return Choice(backend)


def always(call: KernelCall) -> list[str]:
    """The reasons of a reference: none."""
    return []
