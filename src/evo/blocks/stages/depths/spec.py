"""The language and the plan of a mixture of depths."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.route.spec import shared
from evo.blocks.stages.around import AroundSpec, unshared
from evo.blocks.stages.dynamic_patches.patchers.spec import PatcherSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.layers import StagePlan
from evo.dsl.organism import NAME
from evo.dsl.paths import MERGE
from evo.dsl.plan import Cost, gains, linear, matmul_flops
from evo.dsl.references import placed
from evo.dsl.spec import TOKENS, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class DepthsPlan(StagePlan):
    """A stage that a `share` of the tokens of each row passes in training, at most, if its other child, a `patcher`,
    picks them."""

    builder: ClassVar[str] = "evo.blocks.stages.depths.module:Depths"
    chooses: ClassVar[bool] = True
    gathers: ClassVar[bool] = True
    share: float
    pick_loss: float
    weigh: str
    scale: float
    adds: str
    picks_to: str | None
    picks_from: str | None


PICKS = "picks "
"""How signals begin that tell which tokens a stage picked."""


class DepthsSpec(AroundSpec):
    """x_t + r_t (f(the picked tokens)_t - x_t) for tokens that a router picks, x_t for others (Raposo et al. 2024).

    Training picks the best of each row, which looks ahead. Whatever is scored or generated picks a token by its own
    r_t > 0, which a loss makes alike. With a patcher in the router's place, tokens are picked by rule, always alike,
    and what f gives stands in their place (SpaceByte, Slagle 2404.14408).
    """

    kind: ClassVar[str | None] = "depths"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage f. It reads the picked tokens as its whole sequence, so it has no `from`."""
    share: Annotated[float, Field(gt=0, lt=1), Gene(0.05, 0.9, "linear")] = 0.125
    """The share of a row's tokens that pass it in training; with a patcher the most of those so far, everywhere."""
    patcher: Annotated[Spec | None, RoleOf("patcher")] = None
    """What picks tokens, besides the first one: those behind which a patch may end; a router if left out."""
    pick_loss: Annotated[float, Field(gt=0, le=1e6), FIXED] = 0.01
    """The weight of the cross-entropy between sigmoid(r_t) and whether training picked t."""
    weigh: Literal["logit", "sigmoid"] = "logit"
    """What multiplies what is added: r_t, or its sigmoid."""
    scale: Annotated[float, Field(gt=0, le=1e6), FIXED] = 1.0
    """What that is multiplied by (Mixture-of-Recursions: 0.1)."""
    adds: Literal["change", "whole"] = "change"
    """What is added: f(...)_t - x_t, or f(...)_t whole (the code of Mixture-of-Recursions)."""
    picks_to: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """A name under which later ones may pick among the tokens that this one picks."""
    picks_from: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """The name of an earlier one's tokens, of which it picks some (Mixture-of-Recursions, Bae et al. 2507.10524)."""

    @property
    def unread(self) -> frozenset[str]:
        by_router = {"pick_loss", "weigh", "scale", "adds", "picks_from"}
        return frozenset() if self.patcher is None else frozenset(by_router)

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        yield from super().entries()
        if isinstance(self.patcher, PatcherSpec):
            yield from self.patcher.entries()

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from self._alone(scope, "EVO353", "picked tokens")
        if isinstance(self.patcher, PatcherSpec):
            yield from (placed(fault, "patcher") for fault in self.patcher.problems(scope))

    def plan(self, scope: Scope) -> DepthsPlan:
        reads, width = self.reads(scope.before), scope.width
        sources = len(dict(reads)["x"])
        fewer = replace(scope, context=max(1, math.ceil(scope.context * self.share)))
        whole, cheap = (self._inner.plan(self._scope(around)) for around in (scope, fewer))
        patcher = self.patcher.plan(scope) if isinstance(self.patcher, PatcherSpec) else None
        router = (linear("router", 1, width),) if patcher is None else ()
        return DepthsPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(*router, *((gains(MERGE, sources, width),) if sources > 1 else ())),
            cost=Cost(flops=matmul_flops(router) + 3.0 * width * self.share, activations=2 * width),
            children=(
                *((("patcher", patcher),) if patcher is not None else ()),
                (self._child, shared(whole, cheap, self.share)),
            ),
            losses=("pick",) if patcher is None else (),
            has_state=True,
            inputs=(f"{PICKS}{self.picks_from}",) if self._picks_among else (),
            outputs=(f"{PICKS}{self.picks_to}",) if self.picks_to is not None else (),
            share=self.share,
            pick_loss=self.pick_loss,
            weigh=self.weigh if patcher is None else "logit",
            scale=self.scale if patcher is None else 1.0,
            adds=self.adds if patcher is None else "change",
            picks_to=self.picks_to,
            picks_from=self.picks_from if self._picks_among else None,
        )

    @property
    def _picks_among(self) -> bool:
        return self.picks_from is not None and self.patcher is None

    def _inner_faults(self, scope: Scope, code: str, units: str) -> Iterator[Fault]:
        if not all(spec.is_causal for spec in self._inside(scope)):
            message = "a mixer that sees later tokens cannot stand here: rows are filled up with tokens not picked"
            yield Fault("EVO353", ("of",), message, "write a causal one")
        for block in self._inner.plan(self._scope(scope)).blocks():
            if block.outputs or set(block.inputs) - {TOKENS}:
                message = f"'{block.kind}' shares what it computes with other blocks, which see other tokens"
                yield Fault("EVO353", ("of",), message, unshared(block))
                return
            if block.losses and self.patcher is not None:
                message = f"'{block.kind}' would balance tokens too that fill up rows of fewer"
                yield Fault("EVO353", ("of",), message, "choose one without a loss, or a router")
                return
