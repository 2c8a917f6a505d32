"""From a spec to its plan: the single place where intentions become numbers."""

from __future__ import annotations

import math

from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import LearnedSpec, PositionSpec
from evo.compiler.plan import LayerPlan, Plan, StagePlan
from evo.dsl.organism import OrganismSpec, StageSpec
from evo.dsl.plan import Init, Scope, Weight, gains, table
from evo.dsl.references import resolve_mixer

INPUT = "embedding"
"""The name of the graph's input among the sources of a stage."""
EMBEDDING_STD = 0.02


def resolve(organism: OrganismSpec) -> Plan:
    """The plan of an organism that `check` finds no error in."""
    scope = organism_scope(organism)
    place = _norm_of(organism, organism.stages[-1]).place
    return Plan(
        width=organism.width,
        vocab=organism.vocab,
        context=organism.context,
        embedding=_embedding(organism, scope),
        stages=tuple(_stage(organism, index) for index in range(len(organism.stages))),
        final_norm=None if place == "post" else organism.norm.plan(scope),
        readout=None if organism.readout.tie else _readout(organism),
        soft_cap=organism.readout.soft_cap,
        max_positions=_position_of(organism).max_positions(scope),
    )


def organism_scope(organism: OrganismSpec) -> Scope:
    """What every block can see of the organism."""
    depth = sum(stage.repeat for stage in organism.stages if isinstance(stage, StageSpec))
    return Scope(organism.width, organism.context, depth, organism.position, organism.pseudopods)


def stage_scope(organism: OrganismSpec, stage: object) -> Scope:
    """The same with the stage's own position encoding."""
    assert isinstance(stage, StageSpec)
    scope = organism_scope(organism)
    position = stage.position or organism.position
    return Scope(scope.width, scope.context, scope.depth, position, scope.pseudopods)


def sources(organism: OrganismSpec, index: int) -> tuple[str, ...]:
    """The names of what a stage reads: those of `from`, or the stage before it, or the embedding."""
    stage = organism.stages[index]
    assert isinstance(stage, StageSpec)
    if stage.from_ is not None:
        return stage.from_
    if index == 0:
        return (INPUT,)
    before = organism.stages[index - 1]
    assert isinstance(before, StageSpec)
    return (before.name,)


def _readout(organism: OrganismSpec) -> Weight:
    shape = (organism.vocab, organism.width)
    return Weight("weight", shape, Init("normal", EMBEDDING_STD), ("out", "in"), "readout")


def _embedding(organism: OrganismSpec, scope: Scope) -> tuple[Weight, ...]:
    tokens = table("weight", organism.vocab, organism.width, EMBEDDING_STD)
    if isinstance(organism.position, LearnedSpec):
        return (tokens, organism.position.table(scope))
    return (tokens,)


def _position_of(organism: OrganismSpec) -> PositionSpec:
    assert isinstance(organism.position, PositionSpec)
    return organism.position


def _norm_of(organism: OrganismSpec, stage: object) -> NormSpec:
    assert isinstance(stage, StageSpec)
    norm = stage.norm or organism.norm
    assert isinstance(norm, NormSpec)
    return norm


def _stage(organism: OrganismSpec, index: int) -> StagePlan:
    stage = organism.stages[index]
    assert isinstance(stage, StageSpec)
    scope = stage_scope(organism, stage)
    inputs = sources(organism, index)
    merge = gains("merge", len(inputs), organism.width) if len(inputs) > 1 else None
    layers = tuple(_layer(organism, stage, scope, layer) for layer in range(stage.repeat))
    return StagePlan(stage.name, inputs, layers, merge)


def _layer(organism: OrganismSpec, stage: StageSpec, scope: Scope, index: int) -> LayerPlan:
    mixer = resolve_mixer(stage.mix[index % len(stage.mix)], scope).plan(scope)
    ffn = stage.ffn[index % len(stage.ffn)]
    norm = _norm_of(organism, stage)
    name = index % cycle_length(stage) if stage.share else index
    return LayerPlan(
        path=f"stages.{stage.name}.{name}",
        mixer=mixer,
        ffn=None if ffn.kind == "none" else ffn.plan(scope),
        norm=norm.plan(scope),
        place=norm.place,
    )


def cycle_length(stage: StageSpec) -> int:
    """After how many layers the lists under `mix` and `ffn` begin again together."""
    return math.lcm(len(stage.mix), len(stage.ffn))
