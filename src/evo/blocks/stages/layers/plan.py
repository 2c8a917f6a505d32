"""The plan of a run of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from evo.blocks.stages.layers.cycle import CyclingSpec
from evo.blocks.streams.spec import StreamsSpec
from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.paths import MERGE
from evo.dsl.plan import BlockPlan, Cost, gains
from evo.dsl.spec import KV, VALUES, Scope, Spec

END = "end_norm"
STREAMS_BEGIN, STREAMS_END = "streams_begin", "streams_end"


@dataclass(frozen=True, kw_only=True)
class LayersPlan(StagePlan):
    """A run of layers.

    order: the names of its layers as they run; a shared one stands there several times. norm_end: the name of the norm
    that its output passes, if there is one.
    """

    builder: ClassVar[str] = "evo.blocks.stages.layers.module:Layers"
    order: tuple[str, ...]
    norm_end: str | None = None

    def blocks(self) -> Iterator[BlockPlan]:
        """This block, and its layers as often as they run."""
        yield self
        children = dict(self.children)
        for name in (*self.order, *filter(None, [self.norm_end])):
            yield from children[name].blocks()

    def running_layers(self) -> Iterator[tuple[str, LayerPlan]]:
        built = {name: layer for name, layer in self.children if isinstance(layer, LayerPlan)}
        return ((name, built[name]) for name in self.order)


@dataclass(frozen=True, kw_only=True)
class StreamedLayerPlan(LayerPlan):
    """A layer on streams. connections: the child around each sublayer, None where its block reads and adds to all
    streams itself. is_plain: whether new ones change nothing."""

    builder: ClassVar[str] = "evo.blocks.stages.layers.streamed:StreamedLayer"
    connections: tuple[str | None, ...]
    is_plain: bool

    @property
    def at_first(self) -> LayerPlan:
        return _without(self, self.connections) if self.is_plain else self


@dataclass(frozen=True, kw_only=True)
class WrappedLayerPlan(LayerPlan):
    """A layer on streams with one connection around it. aside: how many of its last sublayers stand outside of that.
    is_plain: whether a new one changes nothing."""

    builder: ClassVar[str] = "evo.blocks.stages.layers.wrapped:WrappedLayer"
    connection: str
    aside: int
    is_plain: bool

    @property
    def at_first(self) -> LayerPlan:
        return _without(self, (self.connection,)) if self.is_plain else self


@dataclass(frozen=True, kw_only=True)
class StreamedLayersPlan(LayersPlan):
    """A run of layers on `count` streams, with what ends them as a child, and perhaps what begins them."""

    builder: ClassVar[str] = "evo.blocks.stages.layers.streamed:StreamedLayers"
    count: int

    def blocks(self) -> Iterator[BlockPlan]:
        yield from super().blocks()
        for name, child in self.children:
            if name in (STREAMS_BEGIN, STREAMS_END):
                yield from child.blocks()


def _without(layer: LayerPlan, connections: tuple[str | None, ...]) -> LayerPlan:
    """A layer on one stream."""
    kept = tuple((name, child) for name, child in layer.children if name not in connections)
    return LayerPlan(**{**_values(layer, LayerPlan), "children": kept})


def with_streams(plan: LayersPlan, streams: StreamsSpec, scope: Scope) -> StreamedLayersPlan:
    """A run of layers on streams, each sublayer behind a connection of its own."""
    children: list[tuple[str, BlockPlan]] = []
    index = 0
    for name, child in plan.children:
        if isinstance(child, LayerPlan):
            step = 1 if streams.wraps_layers else len(child.sublayers)
            child, index = _connected(child, streams, scope, index), index + step
        children.append((name, child))
    begin, end = streams.begin(scope), streams.end_behind(scope, index)
    ends = (*(((STREAMS_BEGIN, begin),) if begin is not None else ()), (STREAMS_END, end))
    values = {**_values(plan, LayersPlan), "children": (*children, *ends)}
    if streams.ends_normed:
        values["ends_normed"] = True
    if streams.gives_kv:
        values["outputs"] = (KV, VALUES)
    return StreamedLayersPlan(**values, count=end.count)


def _connected(layer: LayerPlan, streams: StreamsSpec, scope: Scope, first: int) -> LayerPlan:
    if streams.wraps_layers:
        name = f"{layer.sublayers[0].branches[0].block}_streams"
        children = (*layer.children, (name, streams.around(scope, first, layer)))
        values = {**_values(layer, LayerPlan), "children": children}
        is_plain = streams.is_plain_at_first
        return WrappedLayerPlan(**values, connection=name, aside=streams.set_aside, is_plain=is_plain)
    children, names = dict(layer.children), list[str | None]()
    count = streams.end(scope).count
    for place, sublayer in enumerate(layer.sublayers):
        block = sublayer.branches[0].block
        is_own = count > 1 and streams.keeps_count and len(sublayer.branches) == 1
        over = children[block].over_streams(count) if is_own else None
        names.append(f"{block}_streams" if over is None else None)
        if over is None:
            children[f"{block}_streams"] = streams.connection(scope, first + place)
        else:
            children[block] = over
    values = {**_values(layer, LayerPlan), "children": tuple(children.items())}
    is_plain = streams.is_plain_at_first and None not in names
    return StreamedLayerPlan(**values, connections=tuple(names), is_plain=is_plain)


def _values(plan: BlockPlan, cls: type[BlockPlan]) -> dict[str, Any]:
    """The fields of a plan that a class of its bases has."""
    return {field.name: getattr(plan, field.name) for field in fields(cls)}


def layers_plan(
    stage: CyclingSpec,
    scope: Scope,
    layer: Callable[[int], LayerPlan],
    end: BlockPlan | None = None,
    streams: Spec | None = None,
) -> LayersPlan:
    """The plan of a stage whose layers are called as `stage.layer_names` says.

    layer: the plan of the layer that runs at a place; asked once for each that may differ. end: a norm that the
    output passes. streams: what it has instead of one residual stream.
    """
    names, reads = stage.layer_names, stage.reads(scope.before)
    cycle = [layer(index) for index in range(stage.planned(scope))]
    built = {name: cycle[index % len(cycle)] for index, name in enumerate(dict.fromkeys(names))}
    sources = len(dict(reads)["x"])
    plan = LayersPlan(
        kind=stage.label,
        name=stage.name,
        reads=reads,
        ends_normed=end is not None or built[names[-1]].ends_normed,
        weights=(gains(MERGE, sources, scope.width),) if sources > 1 else (),
        cost=Cost(flops=2.0 * sources * scope.width) if sources > 1 else Cost(),
        outputs=(KV,) if KV in dict(reads) else (),
        children=(*built.items(), *(((END, end),) if end is not None else ())),
        order=names,
        norm_end=None if end is None else END,
    )
    return with_streams(plan, streams, scope) if isinstance(streams, StreamsSpec) else plan
