"""From a spec to its plan: the single place where intentions become numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from evo.blocks.activation.spec import act_child, act_word
from evo.blocks.adapters.spec import AdapterSpec, adapted
from evo.blocks.ahead.spec import AheadPlan, AheadSpec
from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import PositionSpec
from evo.compiler.plan import Plan
from evo.dsl.layers import Reads
from evo.dsl.organism import OrganismSpec, StageSpec
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Init, Weight, linear, table, vector
from evo.dsl.spec import INPUT, Scope
from evo.dsl.tree import Path, specs

EMBEDDING_STD = 0.02


def resolve(organism: OrganismSpec) -> Plan:
    """The plan of an organism that `check` finds no error in."""
    scope = organism_scope(organism)
    stages = tuple(stage.plan(stage_scope(organism, index)) for index, stage in enumerate(stages_of(organism)))
    if isinstance(organism.adapters, AdapterSpec):
        stages = tuple(adapted(stage, organism.adapters) for stage in stages)
    assert isinstance(organism.norm, NormSpec)
    assert isinstance(organism.position, PositionSpec)
    return Plan(
        width=organism.width,
        vocab=organism.vocab,
        context=organism.context,
        tokens=_tokens(organism),
        positions=organism.position.table(_placed(organism, scope)),
        stages=stages,
        final_norm=None if stages[-1].ends_normed else organism.norm.plan(scope),
        readout=None if organism.readout.tie else _readout(organism),
        soft_cap=organism.readout.soft_cap,
        **_embedding(organism, _placed(organism, scope)),
        **_transform(organism, scope),
        ahead=_ahead(organism),
    )


def _placed(organism: OrganismSpec, scope: Scope) -> Scope:
    """What is seen where positions are added to the vectors of tokens."""
    return replace(scope, width=organism.embedding.placed_width(organism.width))


def _embedding(organism: OrganismSpec, scope: Scope) -> dict[str, Any]:
    """What else stands between tokens and the first stage."""
    spec, width = organism.embedding, organism.width
    maps: list[Weight] = []
    if spec.width is not None:
        maps.append(linear("project", width, spec.width))
    if spec.bias:
        maps.append(vector("bias", width, ZEROS))
    if spec.gain:
        maps.append(vector("gain", width, ONES))
    assert isinstance(organism.position, PositionSpec)
    return {
        "embedding_maps": tuple(maps),
        "embedding_scale": spec.scale,
        "embedding_norm": spec.norm.plan(scope) if isinstance(spec.norm, NormSpec) else None,
        "norms_tokens": spec.norm_first,
        "projects_last": spec.project_last,
        "order": organism.position.order(scope),
    }


def _transform(organism: OrganismSpec, scope: Scope) -> dict[str, Any]:
    """What else stands between the last stage and logits."""
    spec, readout = organism.readout.transform, organism.readout
    inner = readout.read_width(organism.embedding, organism.width)
    maps: list[Weight] = []
    blocks: list[tuple[str, BlockPlan]] = []
    if spec is not None or inner != organism.width:
        maps.append(linear("transform", inner, organism.width))
    if spec is not None:
        maps += [vector("transform_bias", inner, ZEROS)] if spec.bias else []
        blocks += act_child(spec.act, inner)
        if isinstance(spec.norm, NormSpec):
            blocks.append(("norm", spec.norm.plan(replace(scope, width=inner))))
    mixture = readout.mixture
    if mixture is not None:
        maps += [linear("mixture", mixture.count * inner, inner), linear("share", mixture.count, inner)]
        maps += [vector("mixture_bias", mixture.count * inner, ZEROS)] if mixture.bias else []
    if readout.bias:
        maps.append(vector("bias", organism.vocab, ZEROS))
    if readout.gain:
        maps.append(vector("gain", organism.vocab, ONES))
    return {
        "readout_maps": tuple(maps),
        "readout_act": act_word(spec.act) if spec is not None else "",
        "readout_scale": readout.scale,
        "readout_is_unit": readout.unit,
        "readout_mixture": None if mixture is None else (mixture.count, mixture.act),
        "exits": () if readout.exits is None else readout.exits.after,
        "exit_loss": 0.0 if readout.exits is None else readout.exits.weight,
        "z_loss": 0.0 if mixture is not None else readout.z_loss,
        "readout_blocks": tuple(blocks),
    }


def _ahead(organism: OrganismSpec) -> AheadPlan | None:
    """What predicts tokens beyond the next, behind the last stage."""
    if not isinstance(organism.ahead, AheadSpec):
        return None
    return organism.ahead.behind(stages_of(organism)[-1], stage_scope(organism, len(organism.stages) - 1))


def stages_of(organism: OrganismSpec) -> list[StageSpec]:
    """The stages, in order."""
    return [stage for stage in organism.stages if isinstance(stage, StageSpec)]


def all_stages(organism: OrganismSpec) -> Iterator[tuple[Path, StageSpec]]:
    """The stages, and those that stand in one, each with its path, parents before children."""
    for index, stage in enumerate(organism.stages):
        for path, found in specs(stage, ("organism", "stages", index)):
            if isinstance(found, StageSpec):
                yield path, found


def organism_scope(organism: OrganismSpec) -> Scope:
    """What every block can see of the organism."""
    depth = sum(stage.depth for stage in stages_of(organism))
    position, norm = organism.position, organism.norm
    return Scope(
        organism.width,
        organism.context,
        depth,
        position,
        organism.pseudopods,
        norm=norm,
        layers=organism.layers,
        vocab=organism.vocab,
    )


def stage_scope(organism: OrganismSpec, index: int) -> Scope:
    """What a stage can see of it: the same, and which stages stand before."""
    stages = stages_of(organism)
    earlier = {stage.name: stage for stage in stages[:index]}
    return replace(
        organism_scope(organism),
        before=stages[index - 1].name if index else INPUT,
        earlier=earlier,
        layer=1 + sum(stage.depth for stage in stages[:index]),
    )


def reads(organism: OrganismSpec, index: int) -> Reads:
    """The names of what a stage reads, by input."""
    return stages_of(organism)[index].reads(stage_scope(organism, index).before)


def sources(organism: OrganismSpec, index: int) -> tuple[str, ...]:
    """The names of what a stage reads as x: those of `from`, or the stage before it, or the embedding."""
    return dict(reads(organism, index))["x"]


def _tokens(organism: OrganismSpec) -> Weight:
    width = organism.embedding.width or organism.width
    readout = organism.readout
    std = readout.init if readout.tie else EMBEDDING_STD
    return replace(table("weight", organism.vocab, width, std), reads_out=readout.tie)


def _readout(organism: OrganismSpec) -> Weight:
    shape = (organism.vocab, organism.readout.read_width(organism.embedding, organism.width))
    return Weight("weight", shape, Init("normal", organism.readout.init), ("out", "in"), "readout")
