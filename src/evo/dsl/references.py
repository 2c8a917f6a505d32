"""Text that stands for a mixer: names of `organism.pseudopods`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from evo.base.diagnostics import suggestion
from evo.dsl.index import is_kind, kind_class
from evo.dsl.plan import BlockPlan
from evo.dsl.spec import Fault, Scope, Spec, written
from evo.dsl.tree import names, specs, walk

ABSOLUTE = "//"
"""The first step of a problem's path that starts at the document's root."""

MAX_NESTING = 16
"""How deep pseudopods may name one another."""


def placed(fault: Fault, *path: str | int) -> Fault:
    """A fault of a part, whose path begins there, as one of the whole, in which the part stands at `path`."""
    return fault if fault.path[:1] == (ABSOLUTE,) else replace(fault, path=(*path, *fault.path))


def resolve_mixer(entry: str | Spec, scope: Scope) -> Spec:
    """The mixer that an entry of `mix` stands for. Raises KeyError for an unknown name."""
    return scope.pseudopods[entry] if isinstance(entry, str) else entry


def plan_mixer(entry: str | Spec, scope: Scope) -> BlockPlan:
    """The plan of the mixer that an entry stands for. Raises TypeError for a spec that builds nothing."""
    plan = resolve_mixer(entry, scope).plan(scope)
    if plan is None:
        raise TypeError("a mixer must build a block")
    return plan


def mixer_problems(entry: str | Spec, scope: Scope, path: tuple[str | int, ...]) -> Iterator[Fault]:
    """The faults of one entry: a missing or circular name, or those of the mixer itself, at the place it is written."""
    if not isinstance(entry, str):
        yield from (placed(problem, *path) for problem in entry.problems(scope))
        return
    if entry not in scope.pseudopods:
        known = ", ".join(scope.pseudopods) or "none"
        help = _written_out(entry) or f"{suggestion(entry, scope.pseudopods)}known pseudopods: {known}"
        yield Fault("EVO320", path, f"no pseudopod is named '{entry}'", help)
        return
    if entry in scope.visiting:
        yield Fault("EVO311", path, f"pseudopod '{entry}' contains itself", "name another one in it")
        return
    if len(scope.visiting) == MAX_NESTING:
        message = f"pseudopods name one another more than {MAX_NESTING} levels deep"
        yield Fault("EVO322", path, message, "write what the innermost ones name in their place")
        return
    inside = replace(scope, visiting=(*scope.visiting, entry))
    yield from mixer_problems(scope.pseudopods[entry], inside, (ABSOLUTE, "organism", "pseudopods", entry))


def built_problems(entry: str | Spec, scope: Scope, path: tuple[str | int, ...]) -> Iterator[Fault]:
    """The same of an entry that must build a block, as not every feed-forward does."""
    faults = list(mixer_problems(entry, scope, path))
    yield from faults
    is_sound = all(fault.severity != "error" for fault in faults)
    if is_sound and resolve_mixer(entry, scope).plan(scope) is None:
        yield Fault("EVO306", path, "this builds nothing that could run here", "remove it")


def _written_out(word: str) -> str | None:
    """How the kind of that name is written, if there is one."""
    return f"'{word}' is a kind: write {written(kind_class('block', word))}" if is_kind("block", word) else None


def mixer_count(entry: str | Spec, pseudopods: Mapping[str, Spec], known: dict[str, int], depth: int = 0) -> int:
    """How many mixers an entry of `mix` stands for, itself included; `known` remembers the counts of names."""
    if isinstance(entry, str):
        if entry not in known and entry in pseudopods and depth < MAX_NESTING:
            known[entry] = 1  # what it counts for inside itself, which is a fault of its own
            known[entry] = mixer_count(pseudopods[entry], pseudopods, known, depth + 1)
        return known.get(entry, 1)
    held = (item for place in walk(entry) if place.field.names for _, item in place.entries())
    inner = [item for item in held if item is not None]
    counts = (1 if isinstance(item, Spec) else mixer_count(item, pseudopods, known, depth) for item in inner)
    return 1 + sum(counts)


def named(roots: Iterable[Spec], pseudopods: Mapping[str, Spec]) -> Iterator[str]:
    """Every name that some specs use, directly or inside what they name, each once; unknown ones too."""
    waiting = [name for root in roots for _, name in names(root)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            waiting += [inner for _, inner in names(pseudopods[name])] if name in pseudopods else ()


def reached(root: Spec, pseudopods: Mapping[str, Spec]) -> Iterator[Spec]:
    """A spec and all that stands in it, written there or named; unknown names are passed over."""
    named_specs = (pseudopods[name] for name in named([root], pseudopods) if name in pseudopods)
    for spec in (root, *named_specs):
        yield from (inner for _, inner in specs(spec))
