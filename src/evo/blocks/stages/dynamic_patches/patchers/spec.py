"""The language and the plans of patchers: behind which tokens a patch may end."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.attention.spec import AttentionSpec
from evo.blocks.norm.spec import NormSpec
from evo.blocks.stages.layers.spec import BlocksSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.organism import StageSpec
from evo.dsl.plan import BlockPlan, Cost, Init, Weight, table
from evo.dsl.references import placed, reached
from evo.dsl.spec import TOKENS, Fault, RoleOf, Scope, Spec

STD = 0.02


@dataclass(frozen=True, kw_only=True)
class EveryPlan(BlockPlan):
    """Behind every token."""

    builder: ClassVar[str] = "evo.blocks.stages.dynamic_patches.patchers.module:Every"


@dataclass(frozen=True, kw_only=True)
class SpacePlan(BlockPlan):
    """Behind the first of bytes in a row that are no letters or digits."""

    builder: ClassVar[str] = "evo.blocks.stages.dynamic_patches.patchers.module:Space"


@dataclass(frozen=True, kw_only=True)
class EntropyPlan(BlockPlan):
    """Where a small model, its children, expects more than `threshold` nats of the next token.

    loss: the weight of that model's own loss; at 0 it stays as it is.
    """

    builder: ClassVar[str] = "evo.blocks.stages.dynamic_patches.patchers.entropy:Entropy"
    chooses: ClassVar[bool] = True
    threshold: float
    loss: float

    @property
    def is_frozen(self) -> bool:
        return self.loss == 0.0


class PatcherSpec(Spec):
    """Behind which tokens a patch may end: a rule of the tokens up to each. Its module is a `Patcher`."""

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        """Each mixer that it names or writes, and how many of its layers run it."""
        return iter(())


class EverySpec(PatcherSpec):
    """Behind every token, so that patches are as long as their stage's `size` says, all alike."""

    kind: ClassVar[str | None] = "every"

    def plan(self, scope: Scope) -> EveryPlan:
        del scope
        return EveryPlan(kind=self.label)


class SpaceSpec(PatcherSpec):
    """Behind a byte that is no letter, no digit and no inside of a UTF-8 sequence, unless the one before it is such too
    (SpaceByte, Slagle 2024; BLT, Pagnoni et al. 2024, 2.2)."""

    kind: ClassVar[str | None] = "space"

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if scope.vocab != 256:
            message = f"spaces are looked for in bytes, and the vocabulary has {scope.vocab} symbols"
            yield Fault("EVO354", (), message, "write vocab: 256, or another patcher")

    def plan(self, scope: Scope) -> SpacePlan:
        del scope
        return SpacePlan(kind=self.label, cost=Cost(state=1), inputs=(TOKENS,), has_state=True)


class EntropySpec(PatcherSpec):
    """Where the next token is hard to tell: its entropy, by a small model of its own, is above a threshold (BLT,
    Pagnoni et al. 2024, 2.3)."""

    kind: ClassVar[str | None] = "entropy"

    of: Annotated[Spec | None, RoleOf("stage")] = None
    """The small model's layers, two of attention if left out. They read its own embedding of the tokens, so the stage
    has no `from`."""
    width: Annotated[int, Field(ge=1, le=32768), Gene(16, 512, "scale", multiple=16)] = 64
    """The small model's width."""
    threshold: Annotated[float, Field(ge=0, le=100), Gene(0.2, 5.0, "linear")] = 1.335442066192627
    """In nats: a patch ends where more is expected of the next token."""
    loss: Annotated[float, Field(ge=0, le=1e6), FIXED] = 1.0
    """The weight of the small model's cross-entropy, which trains it beside the rest; at 0 it stays as it is."""

    @property
    def reads_position(self) -> bool:
        return self.of is None

    @property
    def copies_norm(self) -> bool:
        return self._inner.own_norm is None

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        return self._inner.entries()

    def problems(self, scope: Scope) -> Iterator[Fault]:
        inner, inside = self._inner, self._scope(scope)
        found = [placed(fault, "of") for fault in inner.problems(inside)]
        yield from found
        for slot, names in inner.written_sources().items():
            if names is not None:
                message = "the model of a patcher reads tokens, and no stage"
                yield Fault("EVO354", ("of", inner.source_fields()[slot].key), message, "remove it")
                return
        if not all(fault.severity == "warning" for fault in found):
            return
        if not all(spec.is_causal for spec in reached(inner, {**scope.pseudopods, **scope.layers})):
            yield Fault("EVO354", ("of",), "a mixer here sees the tokens that it is to expect", "write a causal one")
        for _, block in inner.plan(inside).named_blocks(""):
            if block.outputs or set(block.inputs) - {TOKENS}:
                message = f"'{block.kind}' shares what it computes with blocks outside of the patcher"
                yield Fault("EVO354", ("of",), message, "give it keys and values of its own")
                return

    def plan(self, scope: Scope) -> EntropyPlan:
        inside = self._scope(scope)
        norm = self._inner.own_norm or scope.norm
        assert isinstance(norm, NormSpec)
        readout = Weight("readout", (scope.vocab, self.width), Init("normal", STD), ("out", "in"), "readout")
        return EntropyPlan(
            kind=self.label,
            weights=(table("table", scope.vocab, self.width, STD), readout),
            cost=Cost(flops=2.0 * readout.count + 4.0 * scope.vocab, activations=2 * self.width + scope.vocab),
            children=((f"of_{self._inner.name}", self._inner.plan(inside)), ("norm", norm.plan(inside))),
            inputs=(TOKENS,),
            losses=("patcher",) if self.loss else (),
            threshold=self.threshold,
            loss=self.loss,
        )

    @property
    def _inner(self) -> StageSpec:
        stage = self.of or BlocksSpec(name="bytes", repeat=2, mix=(AttentionSpec(heads=4),))
        assert isinstance(stage, StageSpec)
        return stage

    def _scope(self, scope: Scope) -> Scope:
        """What stands around the small model's layers."""
        depth = max(1, self._inner.depth)
        return replace(scope, width=self.width, depth=depth, before=self._inner.name, earlier={}, layer=1)
