"""The language and the plan of structured feed-forwards."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.activation.spec import act_word
from evo.blocks.feedforward.spec import DensePlan, UnitsSpec
from evo.dsl.genes import Gene
from evo.dsl.plan import ZEROS, Axis, Cost, Init, Weight, linear, vector
from evo.dsl.spec import Fault, Scope


@dataclass(frozen=True, kw_only=True)
class StructuredPlan(DensePlan):
    """A feed-forward of `hidden` units, gated or not, whose maps have a form."""

    builder: ClassVar[str] = "evo.blocks.structured.module:Structured"
    form: str


class StructuredSpec(UnitsSpec):
    """down(act(up(x))), or down(act(gate(x)) * up(x)), with maps that are blocks on a diagonal, or products of smaller
    ones (Monarch, Dao et al. 2204.00595)."""

    kind: ClassVar[str | None] = "structured"
    stacks: ClassVar[bool] = False

    form: Literal["monarch", "blocks", "kronecker", "low_rank"] = "monarch"
    """What a map is. blocks: blocks on its diagonal. monarch: two of these with their channels interleaved between
    them. kronecker: the Kronecker product of a map of blocks and one of channels. low_rank: two maps by way of `rank`
    channels."""
    blocks: Annotated[int, Field(ge=2, le=4096), Gene(2, 16, "x2")] = 4
    """How many blocks there are, or parts that a Kronecker product's first factor maps."""
    rank: Annotated[int, Field(ge=1, le=65536), Gene(4, 256, "x2")] = 32
    """Channels that a map of low rank passes."""
    gate: bool = False
    """Whether hidden units are gated: then it is `gate` that passes the activation."""

    @property
    def unread(self) -> frozenset[str]:
        return super().unread | {"blocks" if self.form == "low_rank" else "rank"}

    @property
    def grows(self) -> frozenset[str]:
        return frozenset()

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from super().problems(scope)
        if self.form == "low_rank":
            return
        for channels, what in ((scope.width, "width"), (self.units(scope), "hidden units"), (scope.given, "outputs")):
            if channels % self.blocks:
                message = f"{self.blocks} blocks do not divide {channels} {what}"
                yield Fault("EVO300", ("blocks",), message, "change blocks, width or hidden")
                return

    def plan(self, scope: Scope) -> StructuredPlan:
        hidden = self.units(scope)
        shapes = [("gate", hidden, scope.width)] if self.gate else []
        shapes += [("up", hidden, scope.width), ("down", scope.given, hidden)]
        weights: list[Weight] = []
        for name, out, into in shapes:
            weights += self._map(name, out, into, scope.residual_gain if name == "down" else 1.0)
        if self.bias:
            weights += [vector(f"{name}_bias", out, ZEROS) for name, out, _ in shapes]
        flops = sum(self._flops(out, into) for _, out, into in shapes)
        return StructuredPlan(
            kind=self.label,
            weights=tuple(weights),
            cost=Cost(flops=flops, activations=scope.width + (5 if self.gate else 3) * hidden),
            children=self.children(scope),
            hidden=hidden,
            act=act_word(self.act),
            form=self.form,
        )

    def _map(self, name: str, out: int, into: int, gain: float) -> list[Weight]:
        """The weights of one map, drawn so that their product has the variance of a plain one."""
        inner, writes, b = f"{name}_inner", name == "down", self.blocks
        if self.form == "low_rank":
            return [linear(inner, self.rank, into), linear(name, out, self.rank, gain, writes_residual=writes)]
        if self.form == "kronecker":
            return [linear(inner, b, b), linear(name, out // b, into // b, gain, writes_residual=writes)]
        if self.form == "blocks":
            return [_stack(name, b, out // b, into // b, gain, writes)]
        met = min(out, into) // b
        return [_stack(inner, b, met, into // b, 1.0, False), _stack(name, b, out // b, met, gain, writes)]

    def _flops(self, out: int, into: int) -> float:
        b = self.blocks
        if self.form == "kronecker":
            return 2.0 * (b * (out // b) * (into // b) + b * b * (out // b))
        if self.form == "low_rank":
            return 2.0 * self.rank * (out + into)
        return 2.0 * (out * into // b if self.form == "blocks" else (min(out, into) // b) * (out + into))


def _stack(name: str, blocks: int, out: int, into: int, gain: float, writes: bool) -> Weight:
    axes: tuple[Axis, ...] = ("stack", "out", "in")
    draw = Init("normal", gain * into**-0.5)
    return Weight(name, (blocks, out, into), draw, axes, "matrix", writes_residual=writes)
