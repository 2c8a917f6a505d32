"""The language and the plan of predictions further ahead."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import Gene
from evo.dsl.layers import StagePlan
from evo.dsl.organism import StageSpec
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops
from evo.dsl.spec import Fault, Scope, Spec
from evo.dsl.tree import replaced

Tokens = Annotated[int, Field(ge=1, le=16), Gene(1, 4, "+1")]
LossWeight = Annotated[float, Field(gt=0, le=10), Gene(0.05, 1.0, "scale")]


@dataclass(frozen=True, kw_only=True)
class AheadPlan(BlockPlan):
    """Predictions of `tokens` tokens beyond the next, the loss of each weighed by `loss_weight`."""

    tokens: int
    loss_weight: float


@dataclass(frozen=True, kw_only=True)
class ParallelPlan(AheadPlan):
    """A child a token: stages that read what the last one does."""

    builder: ClassVar[str] = "evo.blocks.ahead.module:Parallel"


@dataclass(frozen=True, kw_only=True)
class SequentialPlan(AheadPlan):
    """A child a token: modules that each read the one before."""

    builder: ClassVar[str] = "evo.blocks.ahead.module:Sequential"


@dataclass(frozen=True, kw_only=True)
class ModulePlan(BlockPlan):
    """One module: norms of what came before and of a token, the map that joins them, a layer, the norm behind it."""

    builder: ClassVar[str] = "evo.blocks.ahead.module:Module"


class AheadSpec(Spec):
    """How tokens beyond the next are predicted in training; nothing of it runs elsewhere."""

    @abstractmethod
    def problems_behind(self, stage: StageSpec, scope: Scope) -> Iterator[Fault]:
        """Faults that need the last stage and what it sees; asked where no stage has an error. Paths are relative to
        this spec."""

    @abstractmethod
    def behind(self, stage: StageSpec, scope: Scope) -> AheadPlan:
        """Its plan behind the last stage, given with what that stage sees."""


def losses(tokens: int) -> tuple[str, ...]:
    """The names of the losses, by how many places on the token is."""
    return tuple(f"ahead_{place}" for place in range(2, tokens + 2))


class ParallelAheadSpec(AheadSpec):
    """A head a token beside the last stage, and like it, on what that reads (Gloeckle et al. 2024)."""

    kind: ClassVar[str | None] = "parallel"

    tokens: Tokens = 3
    """How many tokens beyond the next are predicted."""
    weight: LossWeight = 1.0
    """Weight of the loss of each."""

    def problems_behind(self, stage: StageSpec, scope: Scope) -> Iterator[Fault]:
        yield from _length(self.tokens, scope)
        if not stage.plan(scope).parameters:
            message = f"each head is a stage like the last one, and '{stage.name}' has no weights to differ in"
            yield Fault("EVO356", (), message, "end with a stage that has weights of its own")

    def behind(self, stage: StageSpec, scope: Scope) -> ParallelPlan:
        head = stage.plan(scope)
        return ParallelPlan(
            kind=self.label,
            children=tuple((str(index), head) for index in range(self.tokens)),
            losses=losses(self.tokens),
            tokens=self.tokens,
            loss_weight=self.weight,
        )


class SequentialAheadSpec(AheadSpec):
    """A module a token, each one layer on the module before and the embedding of the token before its own (DeepSeek-V3,
    2024)."""

    kind: ClassVar[str | None] = "sequential"

    tokens: Tokens = 1
    """How many tokens beyond the next are predicted."""
    weight: LossWeight = 0.3
    """Weight of the mean of their losses."""

    @property
    def copies_norm(self) -> bool:
        return True

    def problems_behind(self, stage: StageSpec, scope: Scope) -> Iterator[Fault]:
        yield from _length(self.tokens, scope)
        if stage.depth and stage.part(stage.name, stage.depth - 1, 1) is not None:
            return
        message = "each module is a layer like the last one, and the last stage cannot be cut"
        yield Fault("EVO356", (), message, "end with a stage of layers that share nothing, or choose `parallel`")

    def behind(self, stage: StageSpec, scope: Scope) -> SequentialPlan:
        part = stage.part(stage.name, stage.depth - 1, 1)
        assert part is not None
        module = _module(replaced(part, {("from",): None}).plan(scope), scope)
        return SequentialPlan(
            kind=self.label,
            children=tuple((str(index), module) for index in range(self.tokens)),
            losses=losses(self.tokens),
            tokens=self.tokens,
            loss_weight=self.weight / self.tokens,
        )


def _length(tokens: int, scope: Scope) -> Iterator[Fault]:
    if tokens >= scope.context:
        message = f"in a context of {scope.context} no token has {tokens} behind the next one"
        yield Fault("EVO356", ("tokens",), message, "lower it, or raise the context")


def _module(layer: StagePlan, scope: Scope) -> ModulePlan:
    assert isinstance(scope.norm, NormSpec)
    norm, join = scope.norm.plan(scope), (linear("join", scope.width, 2 * scope.width),)
    behind = () if layer.ends_normed else (("norm", norm),)
    return ModulePlan(
        kind="module",
        weights=join,
        cost=Cost(flops=matmul_flops(join), activations=2 * scope.width),
        children=(("stream_norm", norm), ("token_norm", norm), ("layer", layer), *behind),
    )
