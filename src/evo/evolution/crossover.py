"""Two parents, one child: stages that correspond are exchanged; weights that both have are averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from evo.base.streams import Stream
from evo.blocks.position.spec import PositionSpec
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve, stages_of
from evo.dsl.document import Document
from evo.dsl.organism import OrganismSpec, StageSpec
from evo.dsl.patch import Patch, diff, rewrite
from evo.dsl.paths import stage_path
from evo.dsl.plan import BlockPlan
from evo.dsl.spec import spec_fields
from evo.dsl.train import TrainSpec
from evo.dsl.tree import Path, inline, replaced, specs
from evo.evolution.mutate import Child, NoChildError, differs, validated
from evo.evolution.operators.base import Proposal, WeightSources, moved
from evo.evolution.operators.stages import own_gains
from evo.evolution.sites import is_evolvable

TRIES = 40
BOTH: WeightSources = (("", 0, ""), ("", 1, ""))
"""The rows of all that belongs to no stage."""


def align(one: Document, two: Document) -> list[tuple[int, int]]:
    """Pairs of stages that correspond: of the same name, and otherwise at the same place from the front."""
    names = {stage.name: index for index, stage in enumerate(stages_of(two.organism))}
    pairs = [(i, names[stage.name]) for i, stage in enumerate(stages_of(one.organism)) if stage.name in names]
    taken = {j for _, j in pairs}
    named = {i for i, _ in pairs}
    count = len(stages_of(two.organism))
    pairs += [(i, i) for i in range(len(stages_of(one.organism))) if i not in named and i < count and i not in taken]
    return sorted(pairs)


def cross(
    one: Document,
    two: Document,
    stream: Stream,
    *,
    accept: Callable[[Child, Plan], bool] = lambda child, plan: True,
) -> Child:
    """A child with the wiring of `one` and some stages of `two`; its training settings come from one of them.

    It differs from both parents in the plan or in the training settings. Weights that both parents have at
    corresponding places, in blocks of one kind and in the child's shape, begin at their mean; others are those of the
    parent whose stage it is, or else of the one that has them.

    Raises:
        NoChildError: the parents have nothing to exchange that gives such a child.
    """
    rng = stream.numpy()
    pairs, plans = align(one, two), (resolve(one.organism), resolve(two.organism))
    refused = set[tuple[tuple[tuple[int, int], ...], bool]]()
    for _ in range(TRIES):
        taken = tuple(pair for pair in pairs if rng.random() < 0.5)
        is_taught = rng.random() < 0.5
        if (taken, is_taught) in refused:
            continue
        refused.add((taken, is_taught))
        valid = validated(one, Proposal(_exchanged(one, two, taken, is_taught)))
        if valid is None or not all(differs(*parent, *valid) for parent in zip((one, two), plans, strict=True)):
            continue
        rows = tuple(row for pair in pairs for row in _stage_rows(plans, pair, pair in taken))
        child = Child(valid.document, diff(one, valid.document), ("crossover",), (*BOTH, *rows))
        if accept(child, valid.plan):
            return child
    raise NoChildError(f"these parents gave no new child in {TRIES} draws")


def _exchanged(one: Document, two: Document, taken: Sequence[tuple[int, int]], is_taught: bool) -> Patch:
    """The change that gives the stages of `two` to `one`, and the training settings if it is taught."""
    ours, theirs = stages_of(one.organism), stages_of(two.organism)
    changes: dict[Path, Any] = {}
    for i, j in taken:
        adopted = _self_contained(theirs[j], two.organism, one.organism)
        changes["organism", "stages", i] = replaced(adopted, {("name",): ours[i].name, **_wiring(adopted, ours[i])})
    if is_taught:
        changes |= _training_of(two.train)
    return rewrite(one, changes)


def _stage_rows(plans: tuple[Plan, Plan], pair: tuple[int, int], is_taken: bool) -> WeightSources:
    """Where the weights of a stage come from: of both parents, whose it is first, but below blocks of another kind in
    the other one, where equal shapes mean nothing. Gains on its sources stay with the wiring."""
    stages = [plan.stages[place] for plan, place in zip(plans, pair, strict=True)]
    here, own, other = stages[0].name, int(is_taken), int(not is_taken)
    path, theirs = stage_path(here), stage_path(stages[own].name)
    rows = [*moved(path, theirs, own), *own_gains(here)]
    if stages[own].kind != stages[other].kind:
        return tuple(rows)
    for inner in _strangers(stages[own], stages[other]):
        rows += moved(f"{path}.{inner}", f"{theirs}.{inner}", own)
    return (*rows, *moved(path, stage_path(stages[other].name), other))


def _strangers(block: BlockPlan, other: BlockPlan) -> Iterator[str]:
    """The blocks inside one that are of another kind in another one, by their dotted names."""
    known = dict(other.children)
    for name, child in block.children:
        if name in known and known[name].kind != child.kind:
            yield name
        elif name in known:
            yield from (f"{name}.{inner}" for inner in _strangers(child, known[name]))


def _wiring(adopted: StageSpec, ours: StageSpec) -> dict[Path, Any]:
    """The sources of our stage for each input that the adopted one has too."""
    written, fields = ours.source_fields(), adopted.source_fields()
    pairs = ((field, written[slot]) for slot, field in fields.items() if slot in written)
    return {(field.key,): getattr(ours, own.name) for field, own in pairs}


def _training_of(train: TrainSpec) -> dict[Path, Any]:
    """The rule of a training: what evolution may not move (budget, text, seed) is not exchanged."""
    fields = [field for field in spec_fields(TrainSpec).values() if is_evolvable(field)]
    return {("train", field.key): getattr(train, field.name) for field in fields}


def _self_contained(stage: StageSpec, organism: OrganismSpec, home: OrganismSpec) -> StageSpec:
    """The stage of an organism with names written out, and position and norm where its new home has others, so that it
    means the same there."""
    stage = inline(stage, organism.parts)
    norm, position = stage.own_norm or organism.norm, stage.own_position or organism.position
    assert isinstance(position, PositionSpec)
    inherits = position.acts_on != "embedding" and any(spec.reads_position for _, spec in specs(stage))
    overrides = {
        "norm": None if norm == home.norm else norm,
        "position": position if inherits and position != home.position else None,
    }
    return replaced(stage, {(key,): value for key, value in overrides.items() if key in spec_fields(type(stage))})
