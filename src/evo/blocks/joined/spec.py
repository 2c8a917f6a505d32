"""The language and the plan of a block that reads the outputs of stages beside the stream."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import FIXED
from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost
from evo.dsl.references import mixer_problems, plan_mixer, reached, resolve_mixer
from evo.dsl.spec import INPUT, AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec

By = Literal["concatenation", "sum"]


@dataclass(frozen=True, kw_only=True)
class JoinedPlan(BlockPlan):
    """A block, its child `main`, on x and the signals `inputs` as one vector, perhaps through its child `norm`."""

    builder: ClassVar[str] = "evo.blocks.joined.module:Joined"
    by: By

    @property
    def outlets(self) -> tuple[BlockPlan, ...]:
        return (dict(self.children)["main"],)


class JoinedSpec(Spec):
    """f(norm([x, s, ...])) or f(norm(x + s + ...)), s the outputs of stages: a block reads the embedding beside the
    stream (Zamba, Glorioso et al. 2405.16712), or what another stage adds for it alone."""

    kind: ClassVar[str | None] = "joined"
    is_keyed: ClassVar[bool] = True

    joined: Annotated[Name | Spec, RoleOf("block"), Ref()]
    """The block f. Text names an entry of `pseudopods`."""
    to: Annotated[Annotated[tuple[Name, ...], Field(min_length=1, max_length=8)], AsTuple, ListOf(bare=True), FIXED] = (
        INPUT,
    )
    """The stages whose outputs are read; `embedding` is the input of the first."""
    by: By = "concatenation"
    """Whether vectors lie side by side, so that f reads a wider one than it gives, or are added."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """What f reads them through."""

    @property
    def signals(self) -> frozenset[str]:
        return frozenset(self.to) - {INPUT}

    def problems(self, scope: Scope) -> Iterator[Fault]:
        inner = self._inner(scope)
        for index, name in enumerate(self.to):
            if name in self.to[:index]:
                yield Fault("EVO310", ("to", index), f"'{name}' is listed twice", "remove it")
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(inner.width, ("norm",))
        faults = list(mixer_problems(self.joined, inner, ("joined",)))
        yield from faults
        if any(fault.severity == "error" for fault in faults):
            return
        block = resolve_mixer(self.joined, scope)
        if self.by == "concatenation" and scope.kv and any(s.reads_kv for s in reached(block, scope.pseudopods)):
            message = "what a stage adds to keys and values is as wide as the stream, and these are made of more"
            yield Fault("EVO351", ("joined",), message, "write by: sum, or leave kv_add out")
        if self.by == "concatenation" and not block.widths_apart:
            message = f"'{block.label}' gives as many channels as it reads, and reads more here"
            yield Fault("EVO306", ("joined",), message, "write by: sum, or another block")
        elif block.plan(inner) is None:
            yield Fault("EVO306", ("joined",), "this builds nothing that could read them", "remove it")

    def plan(self, scope: Scope) -> JoinedPlan:
        inner, count = self._inner(scope), 1 + len(self.to)
        norm = self.norm.plan(inner) if isinstance(self.norm, NormSpec) else None
        return JoinedPlan(
            kind=self.label,
            cost=Cost(flops=float(scope.width * (count - 1)) if self.by == "sum" else 0.0, activations=inner.width),
            children=(("main", plan_mixer(self.joined, inner)), *((("norm", norm),) if norm else ())),
            inputs=self.to,
            by=self.by,
        )

    def _inner(self, scope: Scope) -> Scope:
        """What f finds around it."""
        if self.by == "sum":
            return scope
        return replace(scope, width=scope.width * (1 + len(self.to)), gives=scope.given)
