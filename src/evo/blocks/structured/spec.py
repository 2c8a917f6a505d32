"""The language and the plan of structured feed-forwards."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evo.blocks.activation.spec import act_word
from evo.blocks.feedforward.spec import DensePlan, UnitsSpec, UpAct
from evo.blocks.structured.forms import FormFields
from evo.dsl.plan import ZEROS, Cost, Weight, vector
from evo.dsl.spec import Fault, Scope


@dataclass(frozen=True, kw_only=True)
class StructuredPlan(DensePlan):
    """A feed-forward of `hidden` units, gated or not, whose maps have a form."""

    builder: ClassVar[str] = "evo.blocks.structured.module:Structured"
    form: str
    factor_act: str
    up_act: str


class StructuredSpec(FormFields, UnitsSpec):
    """down(act(up(x))), or down(act(gate(x)) * up_act(up(x))), with maps that are blocks on a diagonal, or products of
    smaller ones (Monarch, Dao et al. 2204.00595)."""

    kind: ClassVar[str | None] = "structured"
    stacks: ClassVar[bool] = False

    gate: bool = False
    """Whether hidden units are gated: then it is `gate` that passes the activation."""
    up_act: UpAct = "identity"
    """What passes before it is gated (relu: dReLU)."""

    @property
    def unread(self) -> frozenset[str]:
        return super().unread | (frozenset() if self.gate else {"up_act"})

    @property
    def grows(self) -> frozenset[str]:
        return frozenset()

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from super().problems(scope)
        for channels, what in ((scope.width, "width"), (self.units(scope), "hidden units"), (scope.given, "outputs")):
            if any(self.undivided(channels)):
                message = f"{self.blocks} blocks do not divide {channels} {what}"
                yield Fault("EVO300", ("blocks",), message, "change blocks, width or hidden")
                return

    def plan(self, scope: Scope) -> StructuredPlan:
        hidden = self.units(scope)
        shapes = [("gate", hidden, scope.width)] if self.gate else []
        shapes += [("up", hidden, scope.width), ("down", scope.given, hidden)]
        weights: list[Weight] = []
        for name, out, into in shapes:
            weights += self.factors(name, out, into, scope.residual_gain if name == "down" else 1.0, name == "down")
        if self.bias:
            weights += [vector(f"{name}_bias", out, ZEROS) for name, out, _ in shapes]
        flops = sum(self.form_flops(out, into) for _, out, into in shapes)
        activated = sum(self.activated(out, into) for _, out, into in shapes)
        units = 5 + (self.up_act != "identity") if self.gate else 3
        return StructuredPlan(
            kind=self.label,
            weights=tuple(weights),
            cost=Cost(flops=flops, activations=scope.width + units * hidden + 2 * activated),
            children=self.children(scope),
            hidden=hidden,
            act=act_word(self.act),
            form=self.form,
            factor_act="" if self.factor_act == "identity" else self.factor_act,
            up_act="" if self.up_act == "identity" else self.up_act,
        )
