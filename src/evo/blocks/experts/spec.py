"""The language and the plan of experts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.experts.plan import ChooserPlan, router_weights
from evo.blocks.experts.router import RouterSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ZEROS, Cost, Weight, linear, matmul_flops, stacked, table, vector
from evo.dsl.spec import DEFAULT, AsTuple, Fault, ListOf, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ExpertsPlan(ChooserPlan):
    """A stack of `count` feed-forwards of which a token meets `top`, and some that every token meets.

    gated: which of the shared ones are gated.
    """

    builder: ClassVar[str] = "evo.blocks.experts.module:Experts"
    on: str
    gated: tuple[bool, ...]

    @property
    def can_be_silent(self) -> bool:
        return not self.identity and not self.constant and super().can_be_silent


class SharedSpec(Spec):
    """A feed-forward that every token meets beside its experts."""

    called: ClassVar[str | None] = "this shared expert"

    ffn: Annotated[Spec, RoleOf("ffn", default="gated")] = DEFAULT
    """What it is."""
    gate: Literal["none", "sigmoid", "routed"] = "none"
    """sigmoid: its output counts by sigmoid(w x), one number a token (Qwen2-MoE). routed: by the router's score, in one
    sum with those of the token's choices (Inkling)."""


class ExpertsSpec(Spec):
    """sum over a token's experts e of share_e * f_e(x), and the shared ones (Shazeer et al. 2017)."""

    kind: ClassVar[str | None] = "experts"

    of: Annotated[Spec, RoleOf("ffn", default="gated")] = DEFAULT
    """What each expert is: a feed-forward, each with weights of its own."""
    count: Annotated[int, Field(ge=1, le=4096), Gene(2, 16, "x2")] = 8
    """How many experts there are."""
    top: Annotated[int, Field(ge=1, le=256), Gene(1, 4, "+1")] = 2
    """How many of them a token meets (at most, where experts choose)."""
    router: RouterSpec = Field(default_factory=RouterSpec)
    """How they are chosen and weighed."""
    shared: Annotated[tuple[SharedSpec, ...], AsTuple, ListOf(), Field(max_length=16)] = ()
    """Feed-forwards that every token meets besides."""
    on: Literal["output", "input"] = "output"
    """Whether shares multiply what experts give, or what they get (Llama 4)."""
    identity: Annotated[int, Field(ge=0, le=4096), Gene(0, 4, "+1")] = 0
    """Further choices of the router that return their input, and cost nothing (LongCat-Flash, 2509.01322)."""
    skip: Annotated[int, Field(ge=0, le=4096), Gene(0, 2, "+1")] = 0
    """Further choices that give nothing."""
    constant: Annotated[int, Field(ge=0, le=4096), Gene(0, 2, "+1")] = 0
    """Further choices that give a x + (1 - a) v, v a learned vector of each and (a, 1 - a) the softmax of a map of x
    (MoE++, 2410.07348)."""
    latent: Annotated[int | None, Field(ge=1, le=65536), FIXED] = None
    """Width that routed experts work in: the input is projected there, and the sum back."""
    bias: bool = False
    """A bias of the sum that a token's experts give (JetMoE)."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        found = list(self.router.faults(self.top, self.count, self._idle, scope))
        yield from found
        yield from _inner_faults(self.of, self._inside(scope), ("of",), must_stack=True)
        for index, shared in enumerate(self.shared):
            if shared.gate == "routed" and not (self.router.has_logits and self.router.rivals is None):
                message = "this router has no score that a shared expert could count by"
                yield Fault("EVO307", ("shared", index, "gate"), message, "write gate: none, or another score")
            yield from _inner_faults(shared.ffn, scope, ("shared", index, "ffn"), must_stack=False)

    def plan(self, scope: Scope) -> ExpertsPlan:
        inside, classes = self._inside(scope), self.count + self._idle
        scored = classes + sum(spec.gate == "routed" for spec in self.shared)
        one = self.of.plan(inside)
        assert one is not None
        if self.latent is not None:  # `latent_out` is what writes to the stream
            one = replace(one, weights=tuple(replace(weight, writes_residual=False) for weight in one.weights))
        shared = [(f"shared{i}", plan) for i, spec in enumerate(self.shared) if (plan := spec.ffn.plan(scope))]
        weights, chooses = (
            self._weights(scope, inside, classes, scored),
            self.router.children(scope, self.top, self.count),
        )
        return ExpertsPlan(
            kind=self.label,
            weights=weights,
            cost=self._cost(scope, inside, weights),
            children=(("routed", stacked(one, self.count, self.top)), *chooses, *shared),
            inputs=self.router.inputs(scored),
            outputs=self.router.outputs(scored),
            losses=self.router.losses(),
            has_state=self.router.has_state,
            count=self.count,
            top=self.top,
            identity=self.identity,
            skip=self.skip,
            constant=self.constant,
            on=self.on,
            router=self.router,
            limit=self.router.limit(self.top, self.count, scope.context),
            gated=tuple(spec.gate == "sigmoid" for spec in self.shared),
            routed_shared=tuple(spec.gate == "routed" for spec in self.shared),
        )

    @property
    def _idle(self) -> int:
        """The choices that are no feed-forwards."""
        return self.identity + self.skip + self.constant

    def _inside(self, scope: Scope) -> Scope:
        return scope if self.latent is None else replace(scope, width=self.latent)

    def _weights(self, scope: Scope, inside: Scope, classes: int, scored: int) -> tuple[Weight, ...]:
        weights = router_weights(self.router, classes, scored, scope.width)
        if self.constant:
            mix = linear("constant_mix", 2 * self.constant, inside.width)
            weights.append(replace(mix, share=self.top if self.on == "input" else 1.0))
            weights.append(table("constant", self.constant, inside.width, 0.02))
        if self.latent is not None:
            weights.append(linear("latent_in", inside.width, scope.width))
            weights.append(linear("latent_out", scope.width, inside.width, scope.residual_gain, writes_residual=True))
        if self.bias:
            weights.append(vector("bias", scope.width, ZEROS))
        if gates := sum(spec.gate == "sigmoid" for spec in self.shared):
            weights.append(linear("shared_gate", gates, scope.width))
        return tuple(weights)

    def _cost(self, scope: Scope, inside: Scope, weights: tuple[Weight, ...]) -> Cost:
        chooses = self.router.choose == "each_expert"
        return Cost(
            flops=matmul_flops(weights),
            cache_per_token=self.count if chooses else 0,
            state=self.count if self.router.has_state and not chooses else 0,
            activations=scope.width + self.top * (2 * inside.width + 2) + self.count,
        )


def _inner_faults(spec: Spec, scope: Scope, path: tuple[str | int, ...], *, must_stack: bool) -> Iterator[Fault]:
    """What a feed-forward inside experts may not be, and its own faults."""
    if must_stack and not spec.stacks:
        message = f"experts cannot be made of '{spec.label}'"
        yield Fault("EVO307", path, message, "write a feed-forward that can be stacked: dense or gated")
        return
    faults = list(spec.problems(scope))
    yield from (replace(fault, path=(*path, *fault.path)) for fault in faults)
    if any(fault.severity != "warning" for fault in faults):
        return
    plan = spec.plan(scope)
    if plan is None:
        yield Fault("EVO307", path, f"'{spec.label}' builds nothing", "remove it")
    elif must_stack and (plan.has_state or any(child.parameters for _, child in plan.children)):
        message = "experts have neither a state nor parts with weights of their own"
        yield Fault("EVO307", path, message, "write a plainer one")
