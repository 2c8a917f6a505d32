"""The language and the plan of a loop."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.blocks.stages.around import AroundSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.layers import StagePlan
from evo.dsl.paths import MERGE
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight, gains, linear, matmul_flops, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec

MOST_TIMES = 256


@dataclass(frozen=True, kw_only=True)
class LoopPlan(StagePlan):
    """A stage, its first child, that runs `times` times in training, on average, and `score_times` times elsewhere.

    spread: of the lognormal rate that times are drawn by; None for a fixed number. backprop: through how many of the
    last times gradients flow; None for all.
    """

    builder: ClassVar[str] = "evo.blocks.stages.loop.module:Loop"
    times: int
    score_times: int
    spread: float | None
    backprop: int | None
    inject: str
    start: str

    def blocks(self) -> Iterator[BlockPlan]:
        """What it runs as often as it does: with the FLOPs of training, and what decoding keeps."""
        yield self
        inner = [block for _, part in self.inside for block in part.blocks()]
        for turn in range(max(self.times, self.score_times)):
            for block in inner:
                cost = block.cost
                if turn >= self.times:
                    cost = replace(cost, flops=0.0, activations=0)
                if turn >= self.score_times:
                    cost = replace(cost, cache_per_token=0, state=0)
                yield block if cost is block.cost else replace(block, cost=cost)

    @property
    def turns(self) -> int:
        return self.times


@dataclass(frozen=True, kw_only=True)
class HaltingLoopPlan(LoopPlan):
    """A loop whose tokens stop once their halting probabilities sum to `threshold`; `ponder_loss` weighs the turns."""

    builder: ClassVar[str] = "evo.blocks.stages.loop.halting:HaltingLoop"
    chooses: ClassVar[bool] = True
    threshold: float
    ponder_loss: float


@dataclass(frozen=True, kw_only=True)
class ExpectedLoopPlan(HaltingLoopPlan):
    """A loop whose loss is that of all turns, by the chances that tokens stop there. prior: of stopping at each turn,
    for which `ponder_loss` weighs the divergence from it; None: all turns alike."""

    builder: ClassVar[str] = "evo.blocks.stages.loop.expected:ExpectedLoop"
    prior: float | None

    @property
    def times_read(self) -> int:
        return self.times


class HaltSpec(Spec):
    """Each token stops by itself (adaptive computation time, Graves 1603.08983; Universal Transformer; PonderNet,
    Banino et al. 2107.05407)."""

    called: ClassVar[str | None] = "this halt"

    by: Literal["states", "losses"] = "states"
    """states: the loop gives the sum of its states by their probabilities. losses: training minimises the sum of the
    losses of all turns by the chances to stop there, p_n = h_n prod(1 - h_j) over j < n (PonderNet; Ouro, 2510.25741);
    elsewhere the loop gives the state at which these sum to the threshold."""
    threshold: Annotated[float, Field(gt=0, lt=1), Gene(0.5, 0.99, "linear")] = 0.99
    """A token stops at the turn at which its halting probabilities sum to this; the last one gets the rest of 1."""
    prior: Annotated[float | None, Field(gt=0, lt=1), FIXED] = None
    """By losses: the chance of stopping at a turn that tokens' chances are kept near, the rest of 1 at the last
    (PonderNet); if left out, all turns have the same, so that it is entropy that counts (Ouro)."""
    loss: Annotated[float, Field(ge=0, le=1e6), FIXED] = 0.01
    """The weight of the mean of the turns that tokens take, each with the probability left for its last one; by losses:
    of the divergence of their chances from that prior."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset({"prior"}) if self.by == "states" else frozenset()


class LoopSpec(AroundSpec):
    """s <- f(inject(s, x)), several times, with one set of weights: depth that recurs (Dehghani et al. 2019; Geiping et
    al. 2025)."""

    kind: ClassVar[str | None] = "loop"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage f. It reads what the loop hands it, so it has no `from`."""
    times: Annotated[int, Field(ge=1, le=MOST_TIMES), Gene(1, 8, "+1")] = 2
    """How often it runs in training: so often, or so often on average."""
    score_times: Annotated[int | None, Field(ge=1, le=MOST_TIMES), Gene(1, 8, "+1", optional=True)] = None
    """How often it runs where the model is scored or decodes; as often as in training if left out."""
    draw: Literal["fixed", "poisson"] = "fixed"
    """poisson: each step of training draws its times, 1 + Poisson(e^n), n normal around log(times - 1)."""
    spread: Annotated[float, Field(ge=0, le=4), Gene(0.0, 1.0, "linear")] = 0.5
    """The standard deviation of n, whose mean is lowered by half its square so that times keep their mean."""
    backprop: Annotated[int | None, Field(ge=1, le=MOST_TIMES), FIXED] = None
    """Through how many of the last times gradients flow; all if left out."""
    inject: Literal["none", "add", "concat"] = "add"
    """What f reads: s alone, s + x, or a learned map of both side by side."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """What s passes at every turn before x is injected."""
    start: Literal["input", "zeros", "learned", "random"] = "input"
    """What s is at first: x, 0, one learned vector, or normal numbers drawn anew for each place."""
    halt: HaltSpec | None = None
    """When each token stops, and what its turns cost; if left out, all take all of them and the last is what counts."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset({"spread"}) if self.draw == "fixed" else frozenset()

    @property
    def depth(self) -> int:
        return self._inner.depth * self.times

    @property
    def is_normed(self) -> bool:
        return self._inner.is_normed and self.halt is None

    @property
    def layer_names(self) -> tuple[str, ...]:
        return super().layer_names * self.times

    @property
    def is_read_by_turn(self) -> bool:
        return self.halt is not None and self.halt.by == "losses"

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        most = max(self.times, self.score_times or 1)
        yield from ((entry, count * most) for entry, count in self._inner.entries())

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from self._passed_on(scope)
        for slot, names in self._inner.written_sources().items():
            if names is not None:
                field = self._inner.source_fields()[slot].key
                message = "a stage in a loop reads what the loop hands it, and nothing else"
                yield Fault("EVO352", ("of", field), message, "write it on the loop, or take the stage out")
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(scope.width, ("norm",))
        if self.inject == "none" and self.start != "input":
            message = f"with start: {self.start}, nothing of what the loop reads would enter it"
            yield Fault("EVO352", ("inject",), message, "inject it, or start from the input")
        if self.backprop is not None and (self.inject == "none" or self.start == "learned"):
            message = "what enters at the start alone gets no gradient where only the last turns have any"
            yield Fault(
                "EVO352", ("backprop",), message, "remove it; or inject the input, and start from another state"
            )
        if self.halt is not None and self.times == 1:
            message = "a loop that runs once leaves no token a choice"
            yield Fault("EVO352", ("halt",), message, "raise times, or remove it")
        if self.halt is not None and self.backprop is not None:
            message = "what a token takes of its earlier turns has gradients through all of them"
            yield Fault("EVO352", ("backprop",), message, "remove it, or halt")
        if self.score_times == self.times:
            yield Fault("EVO352", ("score_times",), "it is run as often anyway", "remove it", "warning")
        if self.backprop is not None and self.draw == "fixed" and self.backprop >= self.times:
            message = f"gradients flow through all {self.times} times anyway"
            yield Fault("EVO352", ("backprop",), message, "lower or remove it", "warning")
        if self.draw != "fixed" and self.times == 1:
            message = "an average of 1 leaves nothing to draw: it runs once at least"
            yield Fault("EVO352", ("times",), message, "raise times, or write draw: fixed")

    def plan(self, scope: Scope) -> LoopPlan:
        reads, width = self.reads(scope.before), scope.width
        sources = len(dict(reads)["x"])
        inner = self._inner.plan(self._scope(scope))
        norm = self.norm.plan(scope) if isinstance(self.norm, NormSpec) else None
        maps = (linear("adapter", width, 2 * width),) if self.inject == "concat" else ()
        weights: list[Weight] = [*maps]
        if self.start == "learned":
            weights.append(vector("start", width, Init("normal", 0.02)))
        if sources > 1:
            weights.append(gains(MERGE, sources, width))
        cost = Cost(flops=matmul_flops(maps) * self.times, activations=2 * width * self.times)
        halting: dict[str, Any] = {}
        if self.halt is not None:
            weights += [linear("halt", 1, width), vector("halt_bias", 1, ZEROS)]
            halting = {"threshold": self.halt.threshold, "ponder_loss": self.halt.loss}
            each = matmul_flops(tuple(weights[-2:])) + 3.0 * width  # a vector is chosen, and added up
            cost = Cost(flops=cost.flops + each * self.times, activations=2 * cost.activations)
        made = LoopPlan if self.halt is None else HaltingLoopPlan
        if self.halt is not None and self.is_read_by_turn:
            made, halting = ExpectedLoopPlan, {**halting, "prior": self.halt.prior}
        return made(
            kind=self.label,
            name=self.name,
            reads=reads,
            ends_normed=inner.ends_normed and self.halt is None,
            weights=tuple(weights),
            cost=cost,
            losses=() if self.halt is None else ("ponder",),
            children=((self._child, inner), *((("norm", norm),) if norm is not None else ())),
            times=self.times,
            score_times=self.score_times or self.times,
            spread=None if self.draw == "fixed" else self.spread,
            backprop=self.backprop,
            inject=self.inject,
            start=self.start,
            **halting,
        )
