"""Two parents, one child: stages that correspond are exchanged, with their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from evo.base.streams import Stream
from evo.blocks.position.spec import PositionSpec
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve, stages_of
from evo.dsl.document import Document
from evo.dsl.organism import OrganismSpec, StageSpec
from evo.dsl.patch import diff, rewrite
from evo.dsl.paths import stage_path
from evo.dsl.spec import spec_fields
from evo.dsl.train import TrainSpec
from evo.dsl.tree import Path, inline, replaced, specs
from evo.evolution.mutate import Child, NoChildError, differs, validated
from evo.evolution.operators.base import Proposal, moved
from evo.evolution.operators.stages import own_gains
from evo.evolution.sites import is_evolvable

TRIES = 40


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

    It differs from both parents in the plan or in the training settings.

    Raises:
        NoChildError: the parents have nothing to exchange that gives such a child.
    """
    rng = stream.numpy()
    pairs = align(one, two)
    for _ in range(TRIES):
        proposal = _exchange(one, two, pairs, rng)
        loaded = validated(one, proposal)
        if loaded is None:
            continue
        plan = resolve(loaded.document.organism)
        child = Child(loaded.document, diff(one, loaded.document), ("crossover",), proposal.origins)
        if all(differs(parent, child.document, plan) for parent in (one, two)) and accept(child, plan):
            return child
    raise NoChildError(f"these parents gave no new child in {TRIES} draws")


def _exchange(one: Document, two: Document, pairs: list[tuple[int, int]], rng: np.random.Generator) -> Proposal:
    ours, theirs = stages_of(one.organism), stages_of(two.organism)
    taken = [pair for pair in pairs if rng.random() < 0.5]
    changes: dict[Path, Any] = {}
    origins: list[tuple[str, int, str]] = []
    for i, j in taken:
        adopted = _self_contained(theirs[j], two.organism, one.organism)
        changes["organism", "stages", i] = replaced(adopted, {("name",): ours[i].name, **_wiring(adopted, ours[i])})
        origins += moved(stage_path(ours[i].name), stage_path(theirs[j].name), 1) + own_gains(ours[i].name)
    if rng.random() < 0.5:
        changes |= _training_of(two.train)
    return Proposal(rewrite(one, changes), tuple(origins))


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
