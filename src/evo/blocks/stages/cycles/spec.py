"""The language and the plan of cycles."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.stages.around import AroundSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.organism import StageSpec
from evo.dsl.paths import MERGE
from evo.dsl.plan import BlockPlan, Cost, Init, Weight, gains, vector
from evo.dsl.references import placed
from evo.dsl.spec import AsTuple, Fault, ListOf, RoleOf, Scope, Spec

MOST = 64
Turns = Annotated[int, Field(ge=1, le=MOST)]


@dataclass(frozen=True, kw_only=True)
class CyclesPlan(StagePlan):
    """A stage, its first child, that runs several times in each of `times` cycles, and behind these the second child,
    or the first again where there is none.

    turns_of_fast: how often the first one runs in a cycle. backprop: through how many of the last turns of each cycle
    gradients flow.
    """

    builder: ClassVar[str] = "evo.blocks.stages.cycles.module:Cycles"
    times: int
    turns_of_fast: int
    backprop: tuple[int, ...]
    inject: str

    def order(self) -> list[int]:
        """Which of its stages runs, by number, one after another."""
        return [*[0] * self.turns_of_fast, len(self.children) - 1] * self.times

    def blocks(self) -> Iterator[BlockPlan]:
        """What it runs, as often as it does."""
        yield self
        for index in self.order():
            yield from self.children[index][1].blocks()

    def turns_of(self, inner: StagePlan) -> int:
        return sum(self.children[index][1] is inner for index in self.order())

    def running_layers(self) -> Iterator[tuple[str, LayerPlan]]:
        for index in self.order():
            name, stage = self.children[index]
            assert isinstance(stage, StagePlan)
            yield from ((f"{name}.{layer}", plan) for layer, plan in stage.running_layers())


class CyclesSpec(AroundSpec):
    """l <- f(l + h), `turns` times, then h <- g(h + l), all of it `times` times: a state that thinks and a slower one
    that is read out (HRM, Wang et al. 2506.21734; TRM, Jolicoeur-Martineau 2510.04871)."""

    kind: ClassVar[str | None] = "cycles"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage f of the fast state l. It reads what the cycles hand it, so it has no `from`."""
    slow: Annotated[Spec | None, RoleOf("stage")] = None
    """The stage g of the slow state h; f itself if left out, as in TRM."""
    times: Annotated[int, Field(ge=1, le=MOST), Gene(1, 4, "+1")] = 2
    """How many cycles: how often g runs."""
    turns: Annotated[int, Field(ge=1, le=MOST), Gene(1, 6, "+1")] = 3
    """How often f runs in each of them."""
    inject: Literal["start", "always"] = "start"
    """Where x, what the stage reads, enters. start: h is x at first. always: f reads l + h + x, and h is one learned
    vector at first."""
    start: Literal["zeros", "learned"] = "zeros"
    """What l is at first: 0, or one learned vector."""
    backprop: Annotated[Annotated[tuple[Turns, ...], Field(min_length=1)] | None, AsTuple, ListOf(bare=True), FIXED] = (
        None
    )
    """Through how many of the last turns of f gradients flow: one number for all cycles, or one for each; all if left
    out. Through h they flow from cycle to cycle."""

    @property
    def depth(self) -> int:
        return (self._inner.depth * self.turns + self._last.depth) * self.times

    @property
    def own_norm(self) -> Spec | None:
        return self._inner.own_norm if self._last.own_norm is not None else None

    @property
    def reads_norm(self) -> bool:
        return self._inner.reads_norm or self._last.reads_norm

    @property
    def is_normed(self) -> bool:
        return self._last.is_normed

    @property
    def layer_names(self) -> tuple[str, ...]:
        slow = tuple(f"of_{self._last.name}.{name}" for name in self._last.layer_names)
        return (*super().layer_names * self.turns, *slow) * self.times

    @property
    def _last(self) -> StageSpec:
        """The stage of the slow state."""
        return self.slow if isinstance(self.slow, StageSpec) else self._inner

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        yield from ((entry, count * self.turns * self.times) for entry, count in self._inner.entries())
        yield from ((entry, count * self.times) for entry, count in self._last.entries())

    def borrowed(self, scope: Scope) -> tuple[StageSpec, ...]:
        slow = self._last.borrowed(self._scope(scope)) if self.slow is not None else ()
        return (*super().borrowed(scope), *slow)

    def problems(self, scope: Scope) -> Iterator[Fault]:
        inside = {"of": self._inner, **({"slow": self.slow} if isinstance(self.slow, StageSpec) else {})}
        for field, stage in inside.items():
            yield from (placed(fault, field) for fault in stage.problems(self._scope(scope)))
            for slot, names in stage.written_sources().items():
                if names is not None:
                    message = "a stage in cycles reads what these hand it, and nothing else"
                    help = "write it on the cycles, or take the stage out"
                    yield Fault("EVO352", (field, stage.source_fields()[slot].key), message, help)
        if len(inside) > 1 and self._last.name == self._inner.name:
            message = f"the fast stage is called '{self._inner.name}' too"
            yield Fault("EVO352", ("slow", "name"), message, "rename one of them")
        yield from self._backprop_faults()

    def _backprop_faults(self) -> Iterator[Fault]:
        if self.backprop is None:
            return
        if len(self.backprop) not in (1, self.times):
            message = f"{len(self.backprop)} numbers for {self.times} cycles"
            yield Fault("EVO352", ("backprop",), message, "write one number, or one for each cycle")
        elif min(self._through) >= self.turns:
            message = f"gradients flow through all {self.turns} turns anyway"
            yield Fault("EVO352", ("backprop",), message, "lower or remove it", "warning")
        elif self.start == "learned" and self._through[0] < self.turns:
            message = "gradients do not reach the first turn, so what l starts from stays as it was drawn"
            yield Fault("EVO352", ("start",), message, "write zeros, or a larger backprop", "warning")

    @property
    def _through(self) -> tuple[int, ...]:
        """Through how many of the last turns of each cycle gradients flow."""
        said = self.backprop or (self.turns,)
        return said if len(said) == self.times else said[:1] * self.times

    def plan(self, scope: Scope) -> CyclesPlan:
        reads, width = self.reads(scope.before), scope.width
        sources = len(dict(reads)["x"])
        stages = [self._inner, *((self.slow,) if isinstance(self.slow, StageSpec) else ())]
        plans = [(f"of_{stage.name}", stage.plan(self._scope(scope))) for stage in stages]
        weights: list[Weight] = []
        if self.start == "learned":
            weights.append(vector("start", width, Init("normal", 0.02)))
        if self.inject == "always":
            weights.append(vector("slow_start", width, Init("normal", 0.02)))
        if sources > 1:
            weights.append(gains(MERGE, sources, width))
        sums = self.times * (self.turns * (2 if self.inject == "always" else 1) + 1)
        return CyclesPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            ends_normed=plans[-1][1].ends_normed,
            weights=tuple(weights),
            cost=Cost(activations=width * sums),
            children=tuple(plans),
            times=self.times,
            turns_of_fast=self.turns,
            backprop=self._through,
            inject=self.inject,
        )
