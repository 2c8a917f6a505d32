"""The language and the plan of a mixer that a condition bends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.base.diagnostics import suggestion
from evo.dsl.genes import FIXED, Gene
from evo.dsl.organism import Name
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.references import mixer_problems, plan_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec

INPUT, OUTPUT = "input", "output"
By = Literal["film", "add", "scale", "lora"]
PARTS: dict[By, tuple[str, ...]] = {"film": ("scale", "shift"), "add": ("shift",), "scale": ("scale",), "lora": ()}
"""The maps from the condition to channels, by what it does."""


@dataclass(frozen=True, kw_only=True)
class ConditionedPlan(BlockPlan):
    """A mixer, its child `main`, bent at some places by what a hidden layer makes of the condition.

    source: the stage that is read; empty for the mean of what came before. segment: of how many tokens, at most.
    places: `input`, `output`, or linear maps of the mixer. parts: the maps from the hidden layer to each place.
    """

    builder: ClassVar[str] = "evo.blocks.conditioned.module:Conditioned"
    begins_as: ClassVar[str] = "main"
    source: str
    segment: int | None
    places: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def outlets(self) -> tuple[BlockPlan, ...]:
        return (dict(self.children)["main"],)


class ConditionedSpec(Spec):
    """m(x), where h = silu(W c) scales and shifts what m reads, what it makes, or what some of its maps give.

    film: (1 + S h) * y + B h (Perez et al. 1709.07871); add: y + B h; scale: (1 + S h) * y; lora: y + U (G h * (V x)).
    S, B and U are zero at first, when m is as without a condition.
    """

    kind: ClassVar[str | None] = "conditioned"
    is_keyed: ClassVar[bool] = True

    conditioned: Annotated[Name | Spec, RoleOf("mixer"), Ref()]
    """The mixer m. Text names an entry of `pseudopods`."""
    by: By = "film"
    """What the condition does."""
    at: Annotated[Annotated[tuple[str, ...], Field(min_length=1, max_length=16)], AsTuple, ListOf(bare=True), FIXED] = (
        INPUT,
    )
    """Where: `input` (the norm's output in a pre-norm layer), `output`, or names of linear maps of m (q, k, v)."""
    source: Annotated[Name | None, FIXED] = None
    """The stage whose output is the condition c (a latent one, say); the mean of x so far if left out."""
    segment: Annotated[int | None, Field(ge=1), Gene(8, 512, "scale", optional=True)] = None
    """The mean begins anew every so many tokens."""
    hidden: Annotated[int, Field(ge=1, le=65536), Gene(8, 256, "scale", multiple=8)] = 32
    """Channels of h."""
    rank: Annotated[int, Field(ge=1, le=4096), Gene(1, 64, "x2")] = 8
    """The rank of U diag(G h) V."""

    @property
    def unread(self) -> frozenset[str]:
        rank = frozenset[str]() if self.by == "lora" else frozenset({"rank"})
        return rank if self.source is None else rank | {"segment"}

    @property
    def signals(self) -> frozenset[str]:
        return frozenset() if self.source is None else frozenset({self.source})

    def problems(self, scope: Scope) -> Iterator[Fault]:
        faults = list(mixer_problems(self.conditioned, scope, ("conditioned",)))
        yield from faults
        if any(fault.severity == "error" for fault in faults):
            return
        plan = plan_mixer(self.conditioned, scope)
        known = [INPUT, OUTPUT, *_maps(plan)]
        for index, name in enumerate(self.at):
            if name not in known:
                help = f"{suggestion(name, known)}known here: {', '.join(known)}"
                yield Fault("EVO337", ("at", index), f"nothing called '{name}' can be bent here", help)
            elif name in self.at[:index]:
                yield Fault("EVO337", ("at", index), f"'{name}' is listed twice", "remove it")

    def plan(self, scope: Scope) -> ConditionedPlan:
        main = plan_mixer(self.conditioned, scope)
        maps, width = _maps(main), scope.width
        weights = [linear("inner", self.hidden, width), vector("inner_bias", self.hidden, ZEROS)]
        for name in self.at:
            out, into = maps[name].shape if name in maps else (width, width)
            weights += self._weights(name, out, into)
        flops = matmul_flops(tuple(weights)) + 3.0 * width
        pooled = width if self.source is None else 0
        return ConditionedPlan(
            kind=self.label,
            weights=tuple(weights),
            cost=Cost(flops=flops, state=pooled, activations=width + 2 * self.hidden),
            children=(("main", main),),
            inputs=tuple(self.signals),
            has_state=True,
            source=self.source or "",
            segment=self.segment,
            places=self.at,
            parts=PARTS[self.by],
        )

    def _weights(self, name: str, out: int, into: int) -> list[Weight]:
        """The maps from the hidden layer to one place, and what else stands there."""
        if self.by != "lora":
            return [_silent(f"{name}_{part}", out, self.hidden) for part in PARTS[self.by]]
        return [
            linear(f"{name}_gate", self.rank, self.hidden),
            linear(f"{name}_down", self.rank, into),
            _silent(f"{name}_up", out, self.rank),
        ]


def _silent(name: str, out: int, into: int) -> Weight:
    """A linear map that starts at zero."""
    return Weight(name, (out, into), Init("constant", 0.0), ("out", "in"), "matrix")


def _maps(plan: BlockPlan) -> dict[str, Weight]:
    """The linear maps of a mixer whose outputs can be bent, by name: those that every token meets as they are."""
    own = (weight for weight in plan.weights if weight.is_linear and weight.group == "matrix")
    return {weight.name: weight for weight in own if len(weight.shape) == 2 and weight.name not in plan.absorbed}
