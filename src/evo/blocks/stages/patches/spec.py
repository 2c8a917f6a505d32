"""The language and the plan of a stage over patches."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.route.spec import shared
from evo.dsl.genes import Gene
from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.organism import StageSpec
from evo.dsl.paths import MERGE
from evo.dsl.plan import Cost, Init, Weight, gains, linear, matmul_flops, vector
from evo.dsl.references import reached
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class PatchesPlan(StagePlan):
    """A stage, its one child, over patches of `size` tokens."""

    builder: ClassVar[str] = "evo.blocks.stages.patches.module:Patches"
    size: int

    def running_layers(self) -> Iterator[tuple[str, LayerPlan]]:
        for name, stage in self.children:
            if isinstance(stage, StagePlan):
                yield from ((f"{name}.{layer}", plan) for layer, plan in stage.running_layers())


class PatchesSpec(StageSpec):
    """A stage over patches: each token gets a map of what it makes of the patches before the token's own (MEGABYTE, Yu
    et al. 2023)."""

    kind: ClassVar[str | None] = "patches"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage. It reads patches, so it has no `from`; its positions count them."""
    size: Annotated[int, Field(ge=2, le=4096), Gene(2, 16, "x2")] = 8
    """Tokens of a patch."""
    width: Annotated[int | None, Field(ge=1, le=65536), Gene(64, 1024, "scale", multiple=16, optional=True)] = None
    """Width of the stage; size times the stream's if left out."""

    @property
    def depth(self) -> int:
        return self._inner.depth

    @property
    def own_norm(self) -> Spec | None:
        return self._inner.own_norm

    @property
    def reads_norm(self) -> bool:
        return self._inner.reads_norm

    @property
    def layer_names(self) -> tuple[str, ...]:
        return tuple(f"{self._child}.{name}" for name in self._inner.layer_names)

    @property
    def _child(self) -> str:
        """What the stage is called in paths."""
        return f"of_{self._inner.name}"

    @property
    def _inner(self) -> StageSpec:
        assert isinstance(self.of, StageSpec)
        return self.of

    def single(self, name: str, mixer: str | Spec) -> StageSpec | None:
        return self._inner.single(name, mixer)

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        return self._inner.entries()

    def problems(self, scope: Scope) -> Iterator[Fault]:
        inside = self._scope(scope)
        found = [
            fault if fault.path[:1] == ("//",) else replace(fault, path=("of", *fault.path))
            for fault in self._inner.problems(inside)
        ]
        yield from found
        if self.size >= scope.context:
            message = f"a context of {scope.context} tokens has no patch of {self.size} behind it"
            yield Fault("EVO354", ("size",), message, "lower size")
        for slot, names in self._inner.written_sources().items():
            if names is not None:
                field = self._inner.source_fields()[slot].key
                message = "a stage over patches reads these, and nothing else"
                yield Fault("EVO354", ("of", field), message, "write it on the stage around it, or take the stage out")
                return
        if all(fault.severity == "warning" for fault in found):
            yield from self._inner_faults(scope)

    def plan(self, scope: Scope) -> PatchesPlan:
        reads, width, inside = self.reads(scope.before), scope.width, self._scope(scope)
        sources, inner = len(dict(reads)["x"]), self._inner.plan(inside)
        maps = (self._map("down", inside.width, self.size * width), self._map("up", self.size * width, inside.width))
        return PatchesPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(
                *maps,
                vector("first", inside.width, Init("normal", 0.02)),
                *((gains(MERGE, sources, width),) if sources > 1 else ()),
            ),
            cost=Cost(flops=matmul_flops(maps), state=2 * self.size * width, activations=2 * width),
            children=((self._child, shared(inner, inner, 1.0 / self.size)),),
            has_state=True,
            size=self.size,
        )

    def _map(self, name: str, out: int, into: int) -> Weight:
        """A map that each patch meets once."""
        return replace(linear(name, out, into), share=1.0 / self.size)

    def _scope(self, scope: Scope) -> Scope:
        width, patches = self.width or self.size * scope.width, math.ceil(scope.context / self.size)
        return replace(scope, before=self.name, width=width, context=patches)

    def _inner_faults(self, scope: Scope) -> Iterator[Fault]:
        """What the stage inside may not be."""
        if not all(spec.is_causal for spec in reached(self._inner, {**scope.pseudopods, **scope.layers})):
            yield Fault("EVO354", ("of",), "a mixer here sees later patches", "write a causal one")
        for _, block in self._inner.plan(self._scope(scope)).named_blocks(""):
            if block.outputs or block.inputs:
                message = f"'{block.kind}' shares what it computes with other blocks, which see tokens"
                yield Fault("EVO354", ("of",), message, "give it keys and values of its own")
                return
