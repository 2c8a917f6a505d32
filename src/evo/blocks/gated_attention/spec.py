"""The language and the plan of gated attention units."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.attention.stencils import KernelStencil, StencilSpec
from evo.blocks.attention.weighing import share
from evo.blocks.ema.spec import EmaSpec
from evo.blocks.position.spec import NO_POSITION, PositionSpec
from evo.blocks.position.turning import turning_problems
from evo.dsl.acts import Word
from evo.dsl.genes import DRAWN, FIXED, WIDENING, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec

TOWARDS = Init("constant", -2.0)
"""The logit of the step towards the candidate at first."""


@dataclass(frozen=True, kw_only=True)
class GatedAttentionPlan(BlockPlan):
    """One head of keys `dim` wide and values `inner` wide. share: what weights are multiplied by."""

    builder: ClassVar[str] = "evo.blocks.gated_attention.module:GatedAttention"
    dim: int
    inner: int
    act: str
    weigh: Literal["relu2", "softmax"]
    share: float | None
    scale: float | None
    stencil: KernelStencil


class GatedAttentionSpec(Spec):
    """o(act(gate(x)) * attention(x)) of one head, whose queries and keys are gains and biases of one narrow vector a
    token: a gated attention unit (Hua et al. 2202.10447). With averages and steps it is Mega (Ma et al. 2209.10655)."""

    kind: ClassVar[str | None] = "gated_attention"

    inner: Annotated[
        int | None, Field(ge=1, le=262144), Gene(32, 2048, "scale", multiple=8, optional=True), WIDENING
    ] = None
    """Channels of values and gate; twice the width if left out."""
    dim: Annotated[int, Field(ge=2, le=4096), Gene(8, 128, "x2")] = 32
    """Width of the vector that queries and keys are made of."""
    act: Word = "silu"
    """What that vector, the values, the gate, and the candidate of a step pass."""
    weigh: Literal["relu2", "softmax"] = "relu2"
    """What makes weights of scores: the square of relu of a score over the context, or softmax."""
    scale: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """What scores are multiplied by; dim ** -0.5 if left out."""
    stencil: Annotated[StencilSpec, RoleOf("stencil", default="full"), DRAWN] = DEFAULT
    """Which positions a query may see."""
    position: Annotated[Spec | None, RoleOf("position")] = None
    """Turns queries and keys by position; nothing if left out (the stage's encoding is not inherited)."""
    averages: Annotated[int | None, Field(ge=1, le=4096), Gene(1, 32, "x2", optional=True)] = None
    """Damped moving averages of each channel, of which queries, keys, gate and step are made instead of x (Mega); none
    if left out."""
    steps: bool = False
    """Whether it gives p (h - x), p = sigmoid(W x') and h = act(V x' + o(...)), x' being those averages or x: a step of
    the stream towards h (Mega)."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if not self.stencil.is_causal:
            message = f"a unit continues a text, and stencil {self.stencil.label} sees positions still to come"
            yield Fault("EVO308", ("stencil",), message, "write a causal one")
        yield from turning_problems(self.position, self.dim, "a gated attention unit")
        if self.stencil.masks and self.stencil.visible(scope.context, True) >= scope.context * (scope.context + 1) / 2:
            message = f"this stencil hides nothing within the context of {scope.context}"
            yield Fault("EVO331", ("stencil",), message, "write {kind: full}, or make it smaller", "warning")

    def plan(self, scope: Scope) -> GatedAttentionPlan:
        inner, weights = self.inner or 2 * scope.width, self._weights(scope)
        pairs = self.stencil.visible(scope.context, True) / scope.context
        children: list[tuple[str, BlockPlan]] = [("position", NO_POSITION)]
        if isinstance(self.position, PositionSpec):
            children = [("position", self.position.for_heads(scope, 1, self.dim))]
        if self.averages is not None:
            children.append(("average", EmaSpec(state=self.averages, act="identity").plan(scope)))
        return GatedAttentionPlan(
            kind=self.label,
            weights=weights,
            cost=Cost(
                flops=matmul_flops(weights) + 2.0 * (self.dim + inner) * pairs + 4.0 * self.dim + 2.0 * inner,
                cache_per_token=self.dim + inner,
                cache_vectors=(self.dim, inner),
                cache_limit=self.stencil.kept(),
                activations=scope.width * (5 if self.steps else 1) + 4 * inner + 3 * self.dim,
            ),
            children=tuple(children),
            has_state=True,
            dim=self.dim,
            inner=inner,
            act=self.act,
            weigh=self.weigh,
            share=share(self.weigh, scope.context),
            scale=self.scale,
            stencil=self.stencil.kernel(),
        )

    def _weights(self, scope: Scope) -> tuple[Weight, ...]:
        width, inner, dim = scope.width, self.inner or 2 * scope.width, self.dim
        found = [linear("z", dim, width), linear("v", inner, width), linear("gate", inner, width)]
        for name in "qk":
            found += [vector(f"{name}_gain", dim, ONES), vector(f"{name}_shift", dim, ZEROS)]
        turns = isinstance(self.position, PositionSpec) and self.position.acts_on != "nothing"
        if self.weigh == "softmax" and not turns:  # the same for all keys, which no softmax sees
            found.pop()
        found.append(linear("o", width, inner, scope.residual_gain, writes_residual=not self.steps))
        if self.steps:
            found += [linear("candidate", width, width), vector("candidate_bias", width, ZEROS)]
            found += [linear("step", width, width), vector("step_bias", width, TOWARDS)]
        return tuple(found)
