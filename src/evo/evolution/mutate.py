"""From a parent to a child that is valid, new, and really different."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.streams import Stream
from evo.compiler.check import checked, problems
from evo.compiler.compute import steps_of
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash
from evo.dsl.document import Document
from evo.dsl.patch import Patch, apply, diff
from evo.dsl.spec import Fault
from evo.dsl.train import TrainSpec
from evo.dsl.tree import replaced
from evo.evolution.frozen import Frozen
from evo.evolution.operators import OPERATORS, Operator, Proposal, WeightSources
from evo.evolution.operators.base import NOBODY

Odds = tuple[tuple[Operator, float], ...]
"""Operators, with how often each is tried first."""
TRIES = 400
STEP_TRIES = 10
"""Draws for one mutation, before those before it are drawn anew."""
NOTHING = Frozen((), ())
SCHEDULE_SAMPLES = 512
"""Steps at which two schedules are compared; shorter runs are compared at every step."""


@dataclass(frozen=True)
class Child:
    """A new document with the patch from its first parent.

    operators: the names of what made it. origins: see `Proposal`.
    """

    document: Document
    patch: Patch
    operators: tuple[str, ...]
    origins: WeightSources

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
    operators: Odds = OPERATORS,
    frozen: Frozen = NOTHING,
) -> Child:
    """A child of `parent` after so many mutations.

    Every child parses, passes all checks without a warning that its parent did not have, and differs from its parent
    in the plan or in the training settings. `accept` may refuse more (copies of known hashes, costs). What is frozen is
    not tried, so that many mutations of the rest are as easily found as one.

    Raises:
        NoChildError: nothing was found in `TRIES` draws, or as many in a row led to what is frozen.
    """
    rng, before = stream.numpy(), resolve(parent.organism)
    for _ in range(TRIES):
        found = _attempt(parent, before, mutations, scale, rng, operators, frozen)
        if found is None:
            continue
        child, plan = found
        if differs(parent, before, child.document, plan) and accept(child, plan):
            return child
    raise NoChildError(f"no acceptable child in {TRIES} draws")


def mutants(parent: Document, count: int, seed: int, mutations: int = 2) -> Iterator[Child]:
    """`count` children with distinct content, none equal to the parent; child i has 1 to `mutations` mutations.

    Where so many at once never give a valid child, half of them are tried, down to one.

    Raises:
        DiagnosticError: not even one mutation gives a child that is not there yet (EVO622).
    """
    known = {content_hash(parent)}
    for index in range(count):
        stream = Stream(seed).child("mutate", index)
        number = 1 + int(stream.child("count").numpy().integers(mutations))
        child = _mutant(parent, stream, number, known)
        if child is None:
            message = f"no child but the first {index} was found"
            raise DiagnosticError([Diagnostic("EVO622", message, None, "ask for fewer, or mutate those")])
        known.add(child.hash)
        yield child


def _mutant(parent: Document, stream: Stream, number: int, known: set[str]) -> Child | None:
    """A child that is not known, of so many mutations or of fewer; None if there is none."""
    while number:
        try:
            return mutate(parent, stream, mutations=number, accept=lambda child, plan: child.hash not in known)
        except NoChildError:
            number //= 2
    return None


def differs(parent: Document, parent_plan: Plan, child: Document, child_plan: Plan) -> bool:
    """Whether the child is another network, or is trained in another way."""
    return parent_plan != child_plan or trains_otherwise(parent.train, child.train, steps_of(parent))


def trains_otherwise(one: TrainSpec, two: TrainSpec, steps: int) -> bool:
    """Whether two settings differ in effect over so many steps: a schedule moved by less than a step scales no rate."""
    same = replaced(one, {("schedule",): two.schedule}) == two
    sampled = np.linspace(0, steps - 1, min(steps, SCHEDULE_SAMPLES)).astype(int).tolist()
    return not same or any(one.schedule.scale(s, steps) != two.schedule.scale(s, steps) for s in sampled)


def _attempt(
    parent: Document,
    plan: Plan,
    mutations: int,
    scale: float,
    rng: np.random.Generator,
    operators: Odds,
    frozen: Frozen,
) -> tuple[Child, Plan] | None:
    """A child with its plan. plan: the parent's."""
    document, names = parent, list[str]()
    origins: WeightSources = ()
    for _ in range(mutations):
        steps = (_step(document, plan, scale, rng, operators, frozen) for _ in range(STEP_TRIES))
        step = next(filter(None, steps), None)
        if step is None:
            return None
        name, proposal, document, plan = step
        names.append(name)
        origins = compose(origins, proposal.origins)
    return Child(document, diff(parent, document), tuple(names), origins), plan


def _step(
    document: Document, plan: Plan, scale: float, rng: np.random.Generator, operators: Odds, frozen: Frozen
) -> tuple[str, Proposal, Document, Plan] | None:
    proposed = _proposed(document, scale, rng, operators, frozen)
    if proposed is None:
        return None
    name, proposal = proposed
    valid = validated(document, proposal)
    if valid is None or not differs(document, plan, *valid):
        return None
    return name, proposal, valid.document, valid.plan


def _proposed(
    document: Document, scale: float, rng: np.random.Generator, operators: Odds, frozen: Frozen
) -> tuple[str, Proposal] | None:
    """A change with its operator's name, or None if the draw led nowhere. Where something is frozen, draws go on until
    one changes something else."""
    if not frozen:
        return _drawn(document, scale, rng, operators)
    for _ in range(TRIES):
        found = _drawn(document, scale, rng, operators)
        if found is not None and not frozen.touches(found[1].patch):
            return found
    raise NoChildError(f"{TRIES} draws in a row led to what is frozen, or nowhere")


def _drawn(document: Document, scale: float, rng: np.random.Generator, operators: Odds) -> tuple[str, Proposal] | None:
    odds = np.array([share for _, share in operators])
    operator, _ = operators[int(rng.choice(len(operators), p=odds / sum(odds)))]
    places = operator.sites(document)
    if not len(places):
        return None
    proposal = operator.propose(document, places[int(rng.integers(len(places)))], scale, rng)
    return None if proposal is None else (operator.name, proposal)


class Valid(NamedTuple):
    """A document, and its plan."""

    document: Document
    plan: Plan


def validated(parent: Document, proposal: Proposal) -> Valid | None:
    """The patched parent, or None if it has an error, or a warning that the parent has not."""
    try:
        document = apply(proposal.patch, parent).document
    except DiagnosticError:
        return None
    found, plan = checked(document)
    if plan is None or any(fault.severity == "error" for fault in found):
        return None
    if found and not set(map(_fault, found)) <= set(map(_fault, problems(parent))):
        return None
    return Valid(document, plan)


def _fault(problem: Fault) -> tuple[str, str, str]:
    """What a fault is, wherever it stands: sites move when stages come and go."""
    return problem.severity, problem.code, problem.message


def compose(first: WeightSources, second: WeightSources) -> WeightSources:
    """Where weights come from after two changes in a row: the later renames, seen through the earlier ones.

    A row speaks for every path that its prefix begins, unless a longer prefix does. So a later source lies inside the
    longest earlier prefix that begins it, and earlier rows inside a later source move along with it.
    """
    through: list[tuple[str, int, str]] = []
    for child, parent, source in second:
        if parent == NOBODY:
            through.append((child, parent, source))
            continue
        around = [row for row in first if source.startswith(row[0])]
        new, origin, old = max(around, key=lambda row: len(row[0]), default=(source, parent, source))
        through.append((child, origin, old + source.removeprefix(new)))
        inside = (row for row in first if row[0].startswith(source) and row[0] != source)
        along = ((child + new.removeprefix(source), origin, old) for new, origin, old in inside)
        through += [row for row in along if _longest_prefix(row[0], second) == child]
    return (*through, *(row for row in first if not _longest_prefix(row[0], second)))


def _longest_prefix(path: str, origins: WeightSources) -> str:
    """The longest prefix among some rows that begins a path; empty if none does."""
    return max((prefix for prefix, _, _ in origins if path.startswith(prefix)), key=len, default="")
