"""From a parent to a child that is valid, new, and really different."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.compiler.check import check
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash
from evo.dsl.document import Document, Loaded
from evo.dsl.patch import Patch, apply, diff
from evo.evolution.operators import OPERATORS, Proposal

TRIES = 400


@dataclass(frozen=True)
class Child:
    """A new document with the patch from its first parent.

    operators: the names of what made it. origins: see `Proposal`.
    """

    document: Document
    patch: Patch
    operators: tuple[str, ...]
    origins: tuple[tuple[str, int, str], ...]

    @property
    def hash(self) -> str:
        """The content hash: its identity."""
        return content_hash(self.document)


class NoChildError(Exception):
    """No acceptable child was found within the allowed number of draws."""


def mutate(
    parent: Document,
    stream: Stream,
    *,
    mutations: int = 1,
    scale: float = 1.0,
    accept: Callable[[Child, Plan], bool] = lambda child, plan: True,
) -> Child:
    """A child of `parent` after so many mutations.

    Every child parses, passes all checks without a warning that its parent did not have, and differs from its parent
    in the plan or in the training settings. `accept` may refuse more (copies of known hashes, costs).

    Raises:
        NoChildError: nothing was found in `TRIES` draws.
    """
    rng = stream.numpy()
    for _ in range(TRIES):
        child = _attempt(parent, mutations, scale, rng)
        if child is None:
            continue
        plan = resolve(child.document.organism)
        if differs(parent, child.document, plan) and accept(child, plan):
            return child
    raise NoChildError(f"no acceptable child in {TRIES} draws")


def mutants(parent: Document, count: int, seed: int, mutations: int = 2) -> Iterator[Child]:
    """`count` children with distinct content, none equal to the parent; child i has 1 to `mutations` mutations."""
    known = {content_hash(parent)}
    for index in range(count):
        stream = Stream(seed).child("mutate", index)
        number = 1 + int(stream.child("count").numpy().integers(mutations))
        child = mutate(parent, stream, mutations=number, accept=lambda child, plan: child.hash not in known)
        known.add(child.hash)
        yield child


def differs(parent: Document, child: Document, child_plan: Plan) -> bool:
    """Whether the child is another network, or is trained in another way."""
    return parent.train != child.train or resolve(parent.organism) != child_plan


def _attempt(parent: Document, mutations: int, scale: float, rng: np.random.Generator) -> Child | None:
    document, names, origins = parent, [], ()
    for _ in range(mutations):
        step = _step(document, scale, rng)
        if step is None:
            return None
        name, proposal, loaded = step
        document = loaded.document
        names.append(name)
        origins = compose(origins, proposal.origins)
    return Child(document, diff(parent, document), tuple(names), origins)


def _step(document: Document, scale: float, rng: np.random.Generator) -> tuple[str, Proposal, Loaded] | None:
    operators, odds = zip(*OPERATORS, strict=True)
    operator = operators[int(rng.choice(len(operators), p=np.array(odds) / sum(odds)))]
    places = operator.sites(document)
    if not places:
        return None
    proposal = operator.propose(document, places[int(rng.integers(len(places)))], scale, rng)
    if proposal is None:
        return None
    loaded = validated(document, proposal)
    if loaded is None or not differs(document, loaded.document, resolve(loaded.document.organism)):
        return None
    return operator.name, proposal, loaded


def validated(parent: Document, proposal: Proposal) -> Loaded | None:
    """The proposal replayed as a patch and parsed, or None if that is no faultless document."""
    try:
        loaded = apply(diff(parent, proposal.document), parent)
    except DiagnosticError:
        return None
    return None if check(loaded) else loaded


def compose(
    first: tuple[tuple[str, int, str], ...], second: tuple[tuple[str, int, str], ...]
) -> tuple[tuple[str, int, str], ...]:
    """Where weights come from after two changes in a row: the later renames, seen through the earlier ones."""
    through: list[tuple[str, int, str]] = []
    for child, parent, source in second:
        origin = next(((p, old) for new, p, old in first if new == source), (parent, source))
        through.append((child, *origin))
    renamed = {child for child, _, _ in second}
    return (*through, *(row for row in first if row[0] not in renamed))
