"""Layers that are listed once and repeated: what kinds of stages that do so have in common."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from evo.blocks.streams.spec import StreamsSpec
from evo.dsl.genes import FIXED
from evo.dsl.layers import LayerPlan
from evo.dsl.organism import Name, StageSpec
from evo.dsl.references import reached
from evo.dsl.spec import KV, AsTuple, Fault, ListOf, Scope, Sources, Spec
from evo.dsl.tree import replaced

KvAdd = Annotated[
    Annotated[tuple[Name, ...], Field(min_length=1)] | None, AsTuple, ListOf(bare=True), Sources(KV), FIXED
]


class CyclingSpec(StageSpec):
    """A stage of `repeat` layers whose lists begin again after `cycle` of them.

    Each kind declares the fields itself, so that they stand in its own order.
    """

    if TYPE_CHECKING:
        repeat: int
        share: bool
        position: Spec | None
        kv_add: tuple[str, ...] | None
        streams: Spec | None

    @property
    @abstractmethod
    def cycle(self) -> int:
        """After how many layers its lists begin again together."""

    @property
    def depth(self) -> int:
        return self.repeat

    @property
    def own_position(self) -> Spec | None:
        return self.position

    @property
    def layer_names(self) -> tuple[str, ...]:
        return tuple(str(index % self.cycle if self.share else index) for index in range(self.repeat))

    def longer(self, count: int) -> StageSpec | None:
        counts = isinstance(self.streams, StreamsSpec) and self.streams.counts_layers
        return None if self.share or counts else replaced(self, {("repeat",): self.repeat + count})

    def counted(self, entries: tuple[Any, ...]) -> Iterator[tuple[Any, int]]:
        """Each entry of a list with how many layers run it."""
        for index, entry in enumerate(entries):
            yield entry, len(range(index, self.repeat, len(entries)))

    def kv_problems(self, scope: Scope) -> Iterator[Fault]:
        """Something added to keys and values where no mixer has any."""
        parts, gives = {**scope.pseudopods, **scope.layers}, self._streams_give_kv
        if self.kv_add is not None and gives:
            message = "its streams give keys and values sums of their own already"
            yield Fault("EVO351", ("kv_add",), message, "remove it, or write `ways: block` under streams")
        if (self.kv_add is not None or gives) and not any(spec.reads_kv for spec in reached(self, parts)):
            message = "no mixer of this stage has keys and values of its own"
            where, help = (("streams", "ways"), "`ways: block`") if gives else (("kv_add",), "remove it")
            yield Fault("EVO351", where, message, f"{help}, or write an attention")

    def planned(self, scope: Scope) -> int:
        """How many of its layers, from the first on, have plans that may differ: a cycle, or all that are numbered."""
        return self.repeat if self._reads_layers(scope) else min(self.cycle, self.repeat)

    def _reads_layers(self, scope: Scope) -> bool:
        """Whether something in its layers reads their numbers."""
        around = (scope.norm,) if scope.norm is not None else ()
        parts = {**scope.pseudopods, **scope.layers}
        return any(spec.reads_layer for root in (self, *around) for spec in reached(root, parts))

    @property
    def _streams_give_kv(self) -> bool:
        return isinstance(self.streams, StreamsSpec) and self.streams.gives_kv

    def with_kv(self, scope: Scope) -> Scope:
        """What its layers find around them, and what keys and values are maps of there."""
        if self._streams_give_kv:
            return replace(scope, kv="apart")
        return scope if self.kv_add is None else replace(scope, kv="added")

    def streams_problems(self, scope: Scope, layer: Callable[[int], LayerPlan]) -> Iterator[Fault]:
        """Faults of its streams, and sublayers that cannot read and write any, by the plans of its layers."""
        if self.streams is None:
            return
        yield from (replace(fault, path=("streams", *fault.path)) for fault in self.streams.problems(scope))
        layers = [layer(index).sublayers for index in range(min(self.cycle, self.repeat))]
        assert isinstance(self.streams, StreamsSpec)
        if self.streams.counts_layers and self.share:
            message = f"streams of kind {self.streams.kind} tell layers apart, and these share weights"
            yield Fault("EVO357", ("streams",), message, "write share: false, or other streams")
        if self.streams.wraps_layers:
            aside = self.streams.set_aside
            if any(len(sublayers) <= aside for sublayers in layers):
                message = f"{aside} sublayers stand aside, and a layer has no more than these"
                yield Fault("EVO357", ("streams",), message, "give each layer one more")
            layers = [sublayers[len(sublayers) - aside :] for sublayers in layers]
        sublayers = [sublayer for found in layers for sublayer in found]
        if any(s.norm_after is not None or s.skip != 1.0 or any(b.late for b in s.branches) for s in sublayers):
            message = "streams are added to and mixed: no sum of them passes a norm, is scaled, or comes late"
            yield Fault("EVO357", ("streams",), message, "put norms inside branches, or keep one stream")

    def cycle_problems(self, scope: Scope, **lists: tuple[Any, ...]) -> Iterator[Fault]:
        """Lists, by field, that are longer than the stage; weights that are shared by one layer alone, or by layers
        that their numbers tell apart."""
        for field, entries in lists.items():
            if len(entries) > self.repeat:
                message = f"'{field}' lists {len(entries)} entries but the stage has {self.repeat} layers"
                yield Fault("EVO332", (field, self.repeat), message, "raise repeat, or shorten the list")
        if self.share and self.repeat <= self.cycle:
            message = "no two layers of this stage are alike, so nothing is shared"
            yield Fault("EVO333", ("share",), message, None, "warning")
        elif self.share and self._reads_layers(scope):
            message = "what is multiplied by a power of the layer's number is another block in each layer"
            yield Fault("EVO333", ("share",), message, "write share: false, or `power: 0`")


def numbered(scope: Scope, index: int) -> Scope:
    """What stands around the layer that runs at a place of a stage, of whose first layer the scope is."""
    return replace(scope, layer=scope.layer + index)


def turned(entries: tuple[Any, ...], start: int) -> tuple[Any, ...]:
    """A list that cycles, begun at another layer."""
    start %= len(entries)
    return (*entries[start:], *entries[:start])
