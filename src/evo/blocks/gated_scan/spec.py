"""The language and the plan of gated scans."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class GatedScanPlan(BlockPlan):
    """A scan of `inner` channels."""

    builder: ClassVar[str] = "evo.blocks.gated_scan.module:GatedScan"
    inner: int
    input: str
    act: str
    gate: str
    least: float


class GatedScanSpec(Spec):
    """h_t = f_t h_{t-1} + i_t c_t by channel, f, i and c made of the token alone (minGRU, Feng et al. 2410.01201).

    Points in it: input rest and act positive is minGRU, input share minLSTM; act silu, gate silu and a norm is HGRN.
    """

    kind: ClassVar[str | None] = "gated_scan"
    widths_apart: ClassVar[bool] = True

    inner: Annotated[
        int | None, Field(ge=1, le=262144), Gene(32, 2048, "scale", multiple=16, optional=True), WIDENING
    ] = None
    """Channels that are scanned; the width if left out."""
    input: Literal["rest", "share", "own"] = "rest"
    """How much of the candidate is taken in. rest: 1 - f. share: a gate of its own, and f and it are divided by their
    sum (minLSTM). own: a gate of its own."""
    act: Literal["identity", "tanh", "silu", "positive"] = "identity"
    """The activation of the candidate; positive: x + 1/2 from 0 on and sigmoid(x) below (minGRU)."""
    gate: Literal["none", "sigmoid", "silu"] = "none"
    """Output gate, a projection of the input."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of what was scanned, before the gate (HGRN)."""
    least: Annotated[float, Field(ge=0, lt=1), Gene(0, 0.95, "linear")] = 0.0
    """The least that a channel keeps (HGRN raises it from layer to layer)."""
    bias: bool = False
    """Biases of all projections but that of the forget gate, which always has one."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(self.inner or scope.width, ("norm",))

    def plan(self, scope: Scope) -> GatedScanPlan:
        inner = self.inner or scope.width
        weights = self._weights(scope, inner)
        cost = Cost(
            flops=matmul_flops(weights) + 8.0 * inner,
            state=inner,
            activations=scope.width + (6 + (self.input != "rest") + (self.gate != "none")) * inner,
        )
        children: tuple[tuple[str, BlockPlan], ...] = ()
        if isinstance(self.norm, NormSpec):
            children = (("norm", self.norm.plan(replace(scope, width=inner))),)
        return GatedScanPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=children,
            has_state=True,
            inner=inner,
            input=self.input,
            act=self.act,
            gate=self.gate,
            least=self.least,
        )

    def _weights(self, scope: Scope, inner: int) -> tuple[Weight, ...]:
        names = ["candidate"]
        if self.input != "rest":
            names.append("input_gate")
        if self.gate != "none":
            names.append("gate")
        weights = [
            linear("forget_gate", inner, scope.width),
            vector("forget_gate_bias", inner, Init("ramp", 0.0, 4.0)),
            *(linear(name, inner, scope.width) for name in names),
            linear("o", scope.given, inner, scope.residual_gain, writes_residual=True),
        ]
        if self.bias:
            weights += [vector(f"{name}_bias", inner, ZEROS) for name in names]
            weights.append(vector("o_bias", scope.given, ZEROS))
        return tuple(weights)
