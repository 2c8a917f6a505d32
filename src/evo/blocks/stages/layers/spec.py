"""The language of a run of layers: its short form, a mixer and a feed-forward around one kind of norm."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec, Place
from evo.blocks.position.spec import PositionSpec
from evo.blocks.stages.layers.cycle import CyclingSpec, KvAdd, numbered, turned
from evo.blocks.stages.layers.plan import LayersPlan, layers_plan
from evo.dsl.genes import Gene
from evo.dsl.layers import Branch, LayerPlan, Sublayer
from evo.dsl.organism import Name, StageSpec
from evo.dsl.plan import BlockPlan
from evo.dsl.references import mixer_problems, plan_mixer
from evo.dsl.spec import DEFAULT, AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec
from evo.dsl.tree import replaced


class BlocksSpec(CyclingSpec):
    """A named, repeated run of blocks. Reads the stage before it, or the stages named by `from`, added up."""

    kind: ClassVar[str | None] = "blocks"

    repeat: Annotated[int, Field(ge=1, le=512), Gene(1, 12, "+1")] = 1
    """How many layers: each is a mixer and a feed-forward."""
    mix: Annotated[tuple[Name | Spec, ...], AsTuple, ListOf(bare=True), RoleOf("mixer"), Ref(), Field(min_length=1)]
    """The mixer of its layers, or a list that cycles over the repeats. Text names an entry of `pseudopods`."""
    ffn: Annotated[
        tuple[Spec, ...], AsTuple, ListOf(bare=True), RoleOf("ffn", default="gated"), Field(min_length=1)
    ] = DEFAULT
    """The feed-forward of its layers, or a list that cycles over the repeats."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """Overrides the organism's norm."""
    position: Annotated[Spec | None, RoleOf("position")] = None
    """Overrides the organism's position encoding."""
    kv_add: KvAdd = None
    """Stages whose sum is added to what its attentions make keys and values of (Fleuret 2025)."""
    streams: Annotated[Spec | None, RoleOf("streams")] = None
    """What it has instead of one residual stream (hyper-connections); one if left out."""
    share: bool = False
    """Whether the repeats share one set of weights (one set for each entry of a cycling list)."""

    @property
    def reads_norm(self) -> bool:
        return self.norm is None

    @property
    def is_normed(self) -> bool:
        return isinstance(self.norm, NormSpec) and SLOTS[self.norm.place] == ("after",)

    @property
    def own_norm(self) -> Spec | None:
        return self.norm

    @property
    def cycle(self) -> int:
        """After how many layers the lists under `mix` and `ffn` begin again together."""
        return math.lcm(len(self.mix), len(self.ffn))

    def single(self, name: str, mixer: str | Spec) -> StageSpec:
        changes = {"name": name, "repeat": 1, "mix": (mixer,), "ffn": self.ffn[:1], "share": False}
        return replaced(self, {(key,): value for key, value in changes.items()})

    def part(self, name: str, start: int, count: int) -> StageSpec | None:
        if self.share or self.streams is not None:
            return None
        mix, ffn = (turned(entries, start)[:count] for entries in (self.mix, self.ffn))
        return replaced(self, {("name",): name, ("repeat",): count, ("mix",): mix, ("ffn",): ffn})

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        return self.counted(self.mix)

    def problems(self, scope: Scope) -> Iterator[Fault]:
        faults = list(self._meant(scope))
        yield from faults
        if all(fault.severity == "warning" for fault in faults):
            yield from self.streams_problems(
                scope, lambda index: self._layer(numbered(self._scope(scope), index), index)
            )

    def _meant(self, scope: Scope) -> Iterator[Fault]:
        inner = self._scope(scope)
        for index, entry in enumerate(self.mix):
            yield from mixer_problems(entry, inner, ("mix", index))
        for index, ffn in enumerate(self.ffn):
            yield from (replace(p, path=("ffn", index, *p.path)) for p in ffn.problems(inner))
        yield from self.kv_problems(scope)
        yield from self.cycle_problems(inner, mix=self.mix, ffn=self.ffn)
        if isinstance(self.norm, NormSpec):
            yield from self.norm.stream_problems(scope.width, ("norm",))
        if isinstance(self.position, PositionSpec) and self.position.acts_on == "embedding":
            message = "learned positions are added to the embedding: they belong to the organism"
            yield Fault("EVO304", ("position",), message, "write them under organism.position")

    def plan(self, scope: Scope) -> LayersPlan:
        inner = self._scope(scope)
        return layers_plan(self, scope, lambda index: self._layer(numbered(inner, index), index), streams=self.streams)

    def _scope(self, scope: Scope) -> Scope:
        inner = replace(scope, position=self.position or scope.position, norm=self.norm or scope.norm)
        return self.with_kv(inner)

    def _layer(self, scope: Scope, index: int) -> LayerPlan:
        mixer, ffn = plan_mixer(self.mix[index % len(self.mix)], scope), self.ffn[index % len(self.ffn)].plan(scope)
        blocks = [("mixer", mixer), *([("ffn", ffn)] if ffn is not None else [])]
        assert isinstance(scope.norm, NormSpec)
        return short_layer(blocks, scope.norm.plan(scope), scope.norm.place)


SLOTS: dict[Place, tuple[str, ...]] = {"pre": ("in",), "post": ("after",), "sandwich": ("in", "out")}
"""The slots of a sublayer that hold a norm for each place of the short form."""


def short_layer(blocks: list[tuple[str, BlockPlan]], norm: BlockPlan, place: Place) -> LayerPlan:
    """A layer of one block a sublayer, with the same norm around each."""
    children: list[tuple[str, BlockPlan]] = []
    sublayers: list[Sublayer] = []
    for name, block in blocks:
        slots = {slot: f"{name}_out_norm" if slot == "out" else f"{name}_norm" for slot in SLOTS[place]}
        children += [(name, block), *((norm_name, norm) for norm_name in slots.values())]
        sublayers.append(Sublayer((Branch(name, slots.get("in"), slots.get("out")),), slots.get("after")))
    return LayerPlan(kind="layer", children=tuple(children), sublayers=tuple(sublayers), wiring=place)
