"""Two parents, one child: stages that correspond are exchanged, with their weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evo.base.streams import Stream
from evo.compiler.plan import Plan
from evo.compiler.resolve import organism_scope, resolve
from evo.dsl.document import Document
from evo.dsl.genes import Fixed
from evo.dsl.organism import StageSpec
from evo.dsl.patch import diff
from evo.dsl.references import resolve_mixer
from evo.dsl.spec import Spec, shapes
from evo.dsl.train import TrainSpec
from evo.evolution.mutate import Child, NoChildError, differs, validated
from evo.evolution.operators.base import Proposal, stages_of, with_organism
from evo.evolution.operators.stages import own_gains

TRIES = 40


def align(one: Document, two: Document) -> list[tuple[int, int]]:
    """Pairs of stages that correspond: of the same name, and otherwise at the same place from the front."""
    names = {stage.name: index for index, stage in enumerate(stages_of(two))}
    pairs = [(i, names[stage.name]) for i, stage in enumerate(stages_of(one)) if stage.name in names]
    taken = {j for _, j in pairs}
    named = {i for i, _ in pairs}
    count = len(stages_of(two))
    pairs += [(i, i) for i in range(len(stages_of(one))) if i not in named and i < count and i not in taken]
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
    ours, theirs = stages_of(one), stages_of(two)
    taken = [pair for pair in pairs if rng.random() < 0.5]
    origins: list[tuple[str, int, str]] = []
    for i, j in taken:
        adopted = _self_contained(theirs[j], two, one)
        ours[i] = adopted.model_copy(update={"name": ours[i].name, "from_": ours[i].from_})
        origins += [(f"stages.{ours[i].name}.", 1, f"stages.{theirs[j].name}."), *own_gains(ours[i].name)]
    train = _trained_like(one.train, two.train) if rng.random() < 0.5 else one.train
    child = with_organism(one, stages=tuple(ours)).model_copy(update={"train": train})
    return Proposal(child, tuple(origins))


def _trained_like(one: TrainSpec, two: TrainSpec) -> TrainSpec:
    """The training of `one` by the rule of `two`: what evolution may not move (budget, text, seed) stays."""
    free = [shape.name for shape in shapes(TrainSpec).values() if shape.meta(Fixed) is None]
    return one.model_copy(update={name: getattr(two, name) for name in free})


def _self_contained(stage: StageSpec, document: Document, home: Document) -> StageSpec:
    """The stage with named mixers written out, and position and norm where its new home has others, so that it means
    the same there."""
    organism = document.organism
    mix = tuple(_written_out(entry, document) for entry in stage.mix)
    norm, position = stage.norm or organism.norm, stage.position or organism.position
    inherits = position.kind != "learned" and any(_inherits(entry) for entry in mix)
    changes = {
        "mix": mix,
        "norm": None if norm == home.organism.norm else norm,
        "position": position if inherits and position != home.organism.position else None,
    }
    return stage.model_copy(update=changes)


def _written_out(entry: str | Spec, document: Document) -> Spec:
    mixer = resolve_mixer(entry, organism_scope(document.organism))
    if mixer.form == "parallel":
        branches = tuple(_written_out(branch, document) for branch in getattr(mixer, "parallel", ()))
        return mixer.model_copy(update={"parallel": branches})
    return mixer


def _inherits(mixer: Spec) -> bool:
    branches = getattr(mixer, "parallel", None)
    if branches is not None:
        return any(_inherits(branch) for branch in branches)
    return mixer.kind == "attention" and getattr(mixer, "position", None) is None
