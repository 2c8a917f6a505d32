"""Which backend runs a problem, and why the others do not.

A family (attention, recurrence) owns a table of `Backend` rows and a priority list per device. A problem is a small
frozen dataclass that describes shapes, dtypes and features, never tensors, so the choice is made once per problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch

from evo.kernels.operators import in_transform

AUTO = "auto"


@runtime_checkable
class Problem(Protocol):
    """What a family tells the dispatcher. Must be hashable."""

    @property
    def device(self) -> str: ...

    @property
    def table(self) -> Table: ...


@dataclass(frozen=True)
class Backend:
    """One way to run a family.

    `run` imports what it needs when called. `reasons` answers why it cannot run a problem (empty: it can).
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
    """A backend asked for by name cannot run the problem. It is never replaced silently."""


def choose(problem: Problem, requested: str = AUTO) -> Choice:
    """The backend for `problem`: the first without a reason against it, or exactly the one `requested`.

    Made once per problem; made anew while torch.compile traces, since the compiled graph keeps it, and inside a
    transform of torch.func, which not every backend takes.
    Raises `BackendError` when the requested backend is unknown or has a reason against the problem.
    """
    if torch.compiler.is_compiling() or in_transform():
        return _choose(problem, requested)
    return _remembered(problem, requested)


def _choose(problem: Problem, requested: str) -> Choice:
    if requested != AUTO:
        return _explicit(problem, requested)
    rejected: dict[str, tuple[str, ...]] = {}
    for backend in problem.table.order(problem.device):
        reasons = backend.reasons(problem)
        if not reasons:
            return Choice(backend, rejected)
        rejected[backend.name] = tuple(reasons)
    lines = "; ".join(f"{name}: {', '.join(why)}" for name, why in rejected.items())
    raise BackendError(f"{problem.table.family}: no backend runs {problem}: {lines}")


_remembered = lru_cache(maxsize=4096)(_choose)


def _explicit(problem: Problem, requested: str) -> Choice:
    backend = problem.table.named(requested)
    reasons = backend.reasons(problem)
    if reasons:
        raise BackendError(
            f"{problem.table.family}: backend {requested!r} cannot run this problem: {'; '.join(reasons)}"
        )
    return Choice(backend)


def always(problem: Problem) -> list[str]:
    """The reasons of a reference: none."""
    return []
