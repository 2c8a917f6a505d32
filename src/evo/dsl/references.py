"""Text that stands for a mixer: names of `organism.pseudopods`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from evo.base.diagnostics import suggestion
from evo.dsl.plan import Scope
from evo.dsl.spec import Problem, Spec

ABSOLUTE = "//"
"""The first step of a problem's path that starts at the document's root."""


def resolve_mixer(entry: str | Spec, scope: Scope) -> Spec:
    """The mixer that an entry of `mix` stands for. Raises KeyError for an unknown name."""
    return scope.pseudopods[entry] if isinstance(entry, str) else entry


def mixer_problems(entry: str | Spec, scope: Scope, path: tuple[str | int, ...]) -> Iterator[Problem]:
    """The faults of one entry: a missing or circular name, or those of the mixer itself, at the place it is written."""
    if not isinstance(entry, str):
        for problem in entry.problems(scope):
            where = problem.path if problem.path[:1] == (ABSOLUTE,) else (*path, *problem.path)
            yield replace(problem, path=where)
        return
    if entry not in scope.pseudopods:
        known = ", ".join(scope.pseudopods) or "none"
        help = f"{suggestion(entry, scope.pseudopods)}known pseudopods: {known}"
        yield Problem("EVO320", path, f"no pseudopod is named '{entry}'", help)
        return
    if entry in scope.visiting:
        yield Problem("EVO311", path, f"pseudopod '{entry}' contains itself")
        return
    inside = replace(scope, visiting=(*scope.visiting, entry))
    yield from mixer_problems(scope.pseudopods[entry], inside, (ABSOLUTE, "organism", "pseudopods", entry))
