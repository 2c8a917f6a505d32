"""The language and the plan of a stage whose linear maps are read in another form."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from evo.base.diagnostics import suggestion
from evo.blocks.adapters.spec import is_map
from evo.blocks.stages.around import AroundSpec
from evo.dsl.genes import FIXED
from evo.dsl.layers import StagePlan
from evo.dsl.paths import MERGE
from evo.dsl.plan import Cost, Weight, gains
from evo.dsl.spec import AsTuple, Fault, ListOf, RoleOf, Scope, Spec

OPERATIONS = {"own": 0.0, "ternary": 5.0, "binary": 4.0, "int8": 4.0, "unit": 3.0}
"""Of one weight, once a pass."""


@dataclass(frozen=True, kw_only=True)
class RecastPlan(StagePlan):
    """A stage, its first child. maps: the paths of the maps that are read in another form, and the axis along which the
    vectors of the stream lie in each."""

    builder: ClassVar[str] = "evo.blocks.stages.recast.module:RecastStage"
    chooses: ClassVar[bool] = True
    recasts_maps: ClassVar[bool] = True
    weights_as: str
    inputs_as: str
    maps: tuple[tuple[str, int], ...]

    @property
    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings.items() if name != "maps"}


class RecastSpec(AroundSpec):
    """A stage whose linear maps are read in another form, made anew of their weights in each pass; gradients go through
    rounding as if there was none (BitNet b1.58, 2402.17764; nGPT, 2410.01131)."""

    kind: ClassVar[str | None] = "recast"
    recasts_maps: ClassVar[bool] = True

    of: Annotated[Spec, RoleOf("stage")]
    """The stage. It reads what stands around it, so it has no `from`."""
    weights: Literal["own", "ternary", "binary", "int8", "unit"] = "ternary"
    """What maps are read as. ternary: m round(W / m) between -m and m, m the mean of |W|. binary: m sign(W - mean W)
    (BitNet, 2310.11453). int8: 255 levels as far as the largest. unit: rows, but columns of
    maps that write to the stream, have unit length (nGPT). own: as they are."""
    inputs: Literal["own", "int8"] = "own"
    """int8: what these maps read is rounded to 255 levels as far as a token's largest (BitNet)."""
    on: Annotated[Annotated[tuple[str, ...], Field(min_length=1)] | None, AsTuple, ListOf(bare=True), FIXED] = None
    """The names of the maps, as `evo explain` prints them (q, k, v, o, up); every map if left out, but those that a
    block makes others of."""

    @property
    def is_normed(self) -> bool:
        return self._inner.is_normed

    def problems(self, scope: Scope) -> Iterator[Fault]:
        faults = self._read_through(scope)
        yield from faults
        if self.weights == "own" and self.inputs == "own":
            yield Fault("EVO359", ("weights",), "nothing is read in another form", "write another, or the stage alone")
        if all(fault.severity == "warning" for fault in faults):
            yield from self._unknown(scope)

    def _unknown(self, scope: Scope) -> Iterator[Fault]:
        known = {weight.name: None for _, weight in self._maps(self._inner.plan(self._scope(scope)))}
        if not known:
            yield Fault(
                "EVO359", (), "there is no linear map that could be read in another form", "write the stage alone"
            )
        for index, name in enumerate(self.on or ()):
            if name not in known:
                help = f"{suggestion(name, known)}the maps here: {', '.join(known)}"
                yield Fault("EVO359", ("on", index), f"no linear map is named '{name}'", help)

    def plan(self, scope: Scope) -> RecastPlan:
        inner, reads = self._inner.plan(self._scope(scope)), self.reads(scope.before)
        sources = len(dict(reads)["x"])
        found = [(path, weight) for path, weight in self._maps(inner) if self.on is None or weight.name in self.on]
        # a pass over a whole context makes them once
        flops = sum(OPERATIONS[self.weights] * weight.count for _, weight in found) / scope.context
        if self.inputs == "int8":
            flops += sum(4.0 * weight.shape[-1] * weight.share for _, weight in found)
        if sources > 1:
            flops += 2.0 * sources * scope.width
        return RecastPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            ends_normed=inner.ends_normed,
            weights=(gains(MERGE, sources, scope.width),) if sources > 1 else (),
            cost=Cost(flops=flops),
            children=((self._child, inner),),
            weights_as=self.weights,
            inputs_as=self.inputs,
            maps=tuple((path, -2 if weight.writes_residual else -1) for path, weight in found),
        )

    def _scope(self, scope: Scope) -> Scope:
        """No stages above: this changes the maps of the stage inside, and those are another's."""
        return replace(super()._scope(scope), earlier={})

    def _maps(self, inner: StagePlan) -> Iterator[tuple[str, Weight]]:
        """The linear maps of the stage inside, by their paths from here."""
        for path, block in inner.named_blocks(self._child):
            for weight in block.weights:
                if is_map(weight) and weight.name not in block.absorbed:
                    yield f"{path}.{weight.name}", weight
