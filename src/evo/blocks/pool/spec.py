"""The language and the plan of a pool of pseudopods."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.attention.spec import AttentionSpec
from evo.dsl.genes import Gene
from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost, Init, vector
from evo.dsl.references import mixer_problems, plan_mixer, resolve_mixer
from evo.dsl.spec import Fault, Ref, RoleOf, Scope, Spec

MOST_SLOTS = 256
TOGETHER = "together"
"""The name of the child that holds all slots side by side."""


@dataclass(frozen=True, kw_only=True)
class PoolPlan(BlockPlan):
    """`slots` pseudopods. Its children are one mixer that holds all side by side, or one mixer a slot.

    side_by_side: of the one mixer, the axis along which the slots' shares of each weight lie, by the weight's name;
    empty where each slot is a mixer of its own.
    """

    builder: ClassVar[str] = "evo.blocks.pool.module:Pool"
    slots: int
    side_by_side: tuple[tuple[str, int], ...] = ()

    @property
    def outlets(self) -> tuple[BlockPlan, ...]:
        return tuple(child for _, child in self.children)


class PoolSpec(Spec):
    """sum over slots p of gain_p f_p(x): mixers of one kind, each with weights of its own (its pseudopods).

    A slot whose gain is exactly 0 is empty: it adds nothing and learns nothing, until a training that lets pools live
    (`train.life`) gives birth there. Shapes, optimizer and step stay the same all along.
    """

    kind: ClassVar[str | None] = "pool"
    lives: ClassVar[bool] = True

    of: Annotated[Name | Spec | None, RoleOf("mixer"), Ref()] = None
    """What each pseudopod is; attention with one head of width / slots if left out."""
    slots: Annotated[int, Field(ge=1, le=MOST_SLOTS), Gene(2, 64, "x2")] = 8
    """How many pseudopods there can be."""
    alive: Annotated[int | None, Field(ge=1, le=MOST_SLOTS), Gene(1, 64, "+1", optional=True)] = None
    """How many there are at the start; as many as slots if left out."""

    @property
    def reads_position(self) -> bool:
        return self.of is None

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.alive is not None and self.alive >= self.slots:
            message = f"{self.alive} pseudopods alive in {self.slots} slots"
            if self.alive == self.slots:
                yield Fault("EVO330", ("alive",), f"{message} is what it means to leave it out", "remove it", "warning")
            else:
                yield Fault("EVO309", ("alive",), message, f"{self.slots} at most, or more slots")
        if self.of is None:
            if scope.width % self.slots:
                message = f"{self.slots} slots do not divide the width {scope.width}"
                yield Fault("EVO300", ("slots",), message, "change slots or width, or say what each is: of")
                return
            yield from (replace(fault, path=("slots",)) for fault in self._one(scope).problems(scope))
            return
        yield from mixer_problems(self.of, scope, ("of",))

    def plan(self, scope: Scope) -> PoolPlan:
        alive = self.alive or self.slots
        together = _together(self._one(scope), self.slots, scope)
        one = plan_mixer(self._one(scope), scope)
        if together is None:
            children = tuple((f"slot{slot}", one) for slot in range(self.slots))
            gain, side_by_side, channels = alive**-0.5, (), self.slots * scope.width
        else:
            children, side_by_side = ((TOGETHER, together[0]),), together[1]
            gain = math.sqrt(self.slots / alive)
            channels = sum(w.shape[-1] for w in together[0].weights if w.writes_residual)
        return PoolPlan(
            kind=self.label,
            weights=(vector("gain", self.slots, Init("leading", alive, gain)),),
            cost=Cost(flops=2.0 * channels, activations=channels),
            children=children,
            slots=self.slots,
            side_by_side=side_by_side,
        )

    def _one(self, scope: Scope) -> Spec:
        """The spec of one pseudopod."""
        if self.of is None:
            return AttentionSpec(heads=1, head_dim=scope.width // self.slots)
        return resolve_mixer(self.of, scope)


def _together(one: Spec, slots: int, scope: Scope) -> tuple[BlockPlan, tuple[tuple[str, int], ...]] | None:
    """The plan of one mixer that is `slots` of these side by side, and along which axis of each weight they lie.

    None where there is none: where a weight or a part (a norm, slopes of a position) would be one for all of them.
    """
    many = one.beside(slots, scope.width)
    if many is None or slots == 1:
        return None
    narrow, wide = plan_mixer(one, scope), plan_mixer(many, scope)
    if narrow.children != wide.children or any(child.parameters for _, child in wide.children):
        return None
    axes: list[tuple[str, int]] = []
    for small, large in zip(narrow.weights, wide.weights, strict=True):
        grown = [axis for axis, (a, b) in enumerate(zip(small.shape, large.shape, strict=True)) if a != b]
        if len(grown) != 1 or large.shape[grown[0]] != slots * small.shape[grown[0]]:
            return None
        axes.append((large.name, grown[0]))
    return wide, tuple(axes)
