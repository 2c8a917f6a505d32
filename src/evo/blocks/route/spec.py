"""The language and the plan of routed mixers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops
from evo.dsl.references import mixer_problems, plan_mixer, reached, resolve_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec

P = TypeVar("P", bound=BlockPlan)


@dataclass(frozen=True, kw_only=True)
class RoutePlan(BlockPlan):
    """Mixers, its children, of which a token is sent to `top`."""

    builder: ClassVar[str] = "evo.blocks.route.module:Route"
    chooses: ClassVar[bool] = True
    gathers: ClassVar[bool] = True
    top: int
    temperature: float
    balance: float

    @property
    def outlets(self) -> tuple[BlockPlan, ...]:
        return tuple(child for _, child in self.children)


class RouteSpec(Spec):
    """Each token is sent to the `top_k` mixers of largest p = softmax(W x / temperature): sum over them of p_i f_i.

    A mixer sees the tokens that it is sent as its whole sequence, so a token costs what its own mixers cost.
    """

    kind: ClassVar[str | None] = "route"
    is_keyed: ClassVar[bool] = True

    route: Annotated[
        tuple[Name | Spec, ...], AsTuple, ListOf(), RoleOf("mixer"), Ref(), Field(min_length=2, max_length=16)
    ]
    """The mixers, at least two. Their positions count the tokens that they are sent."""
    top_k: Annotated[int, Field(ge=1, le=16), Gene(1, 4, "+1")] = 1
    """How many of them a token is sent to."""
    temperature: Annotated[float, Field(gt=0, le=1e6), Gene(0.1, 10.0, "scale")] = 1.0
    """What the router's logits are divided by."""
    balance: Annotated[float, Field(ge=0, le=1e6), FIXED] = 0.01
    """The weight of the loss that keeps them equally busy (Fedus et al. 2021, eq. 4)."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.top_k > len(self.route):
            message = f"a token cannot be sent to {self.top_k} of {len(self.route)} mixers"
            yield Fault("EVO350", ("top_k",), message, "lower top_k, or add mixers")
        for index, entry in enumerate(self.route):
            path, found = ("route", index), list(mixer_problems(entry, scope, ("route", index)))
            yield from found
            if all(fault.severity == "warning" for fault in found):
                yield from _routable(resolve_mixer(entry, scope), scope, path)

    def plan(self, scope: Scope) -> RoutePlan:
        share = self.top_k / len(self.route)
        fewer = replace(scope, context=max(1, math.ceil(scope.context * share)))
        branches = [shared(plan_mixer(m, scope), plan_mixer(m, fewer), share) for m in self.route]
        weights = (linear("router", len(branches), scope.width),)
        return RoutePlan(
            kind=self.label,
            weights=weights,
            cost=Cost(
                flops=matmul_flops(weights) + 2.0 * self.top_k * scope.width,
                activations=2 * len(branches) + self.top_k * scope.width,
            ),
            children=tuple((f"branch{i}", branch) for i, branch in enumerate(branches)),
            losses=("balance",) if self.balance and self.top_k < len(branches) else (),
            has_state=True,
            top=self.top_k,
            temperature=self.temperature,
            balance=self.balance,
        )


def _routable(mixer: Spec, scope: Scope, path: tuple[str | int, ...]) -> Iterator[Fault]:
    """What a mixer may not be that sees only the tokens that it is sent."""
    if not all(spec.is_causal for spec in reached(mixer, scope.pseudopods)):
        message = "a mixer that sees later tokens cannot be routed to: rows are filled up with tokens not sent to it"
        yield Fault("EVO350", path, message, "write a causal one")
    for _, block in plan_mixer(mixer, scope).named_blocks(""):
        if block.outputs or block.inputs:
            message = "a mixer that sees few of the tokens cannot share what it computes with other blocks"
            yield Fault("EVO350", path, message, "give it keys and values of its own, or take it out of the route")
        if block.losses:
            message = f"a loss of '{block.kind}' would be a mean over tokens that it was not sent, too"
            yield Fault("EVO350", path, message, "take it out of the route, or let it add no loss")


def shared(plan: P, cheap: BlockPlan, share: float) -> P:
    """A block that meets a share of all tokens; `cheap` is the same over so many fewer.

    What runs once a pass is counted whole.
    """
    part = 1.0 if plan.runs_once else share
    cost = cheap.cost
    children = zip(plan.children, cheap.children, strict=True)
    met = plan.running(cheap, lambda own, low: shared(own, low, share))
    return replace(
        met,
        weights=tuple(replace(weight, share=weight.share * part) for weight in plan.weights),
        cost=replace(
            plan.cost,
            flops=cost.flops * part,
            activations=math.ceil(cost.activations * part),
            seen_per_token=cost.seen_per_token * share,
        ),
        children=tuple((name, shared(child, low, share)) for (name, child), (_, low) in children),
        adapters=tuple((name, shared(adapter, adapter, share)) for name, adapter in plan.adapters),
    )
