"""The language and the plan of activations with learned coefficients of powers."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.activation.spec import ActSpec
from evo.dsl.genes import Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, vector

Order = Annotated[int, Field(ge=1, le=16), Gene(1, 6, "+1")]


@dataclass(frozen=True, kw_only=True)
class PolynomialPlan(BlockPlan):
    """A sum of powers up to `order`."""

    builder: ClassVar[str] = "evo.blocks.activation.powers.module:Polynomial"
    order: int
    of: str


class PolynomialSpec(ActSpec):
    """a_0 + sum over i of a_i p_i(x), a learned; p_i is relu(x)^i, or x^i over its rms over all channels (PolyReLU and
    PolyNorm, Zhuo et al. 2411.03884).
    """

    kind: ClassVar[str | None] = "polynomial"

    order: Order = 3
    """The highest power."""
    of: Literal["relu", "norm"] = "norm"
    """What the powers are of."""

    def over(self, hidden: int) -> PolynomialPlan:
        weights = (vector("powers", self.order, Init("constant", 1.0 / self.order)), vector("offset", 1, ZEROS))
        each = 3.0 if self.of == "relu" else 7.0
        cost = Cost(flops=each * self.order * hidden, activations=(1 + self.order) * hidden)
        return PolynomialPlan(kind=self.label, weights=weights, cost=cost, order=self.order, of=self.of)


@dataclass(frozen=True, kw_only=True)
class RationalPlan(BlockPlan):
    """A quotient of two polynomials."""

    builder: ClassVar[str] = "evo.blocks.activation.powers.module:Rational"
    numerator: int
    denominator: int


class RationalSpec(ActSpec):
    """(a_0 + a_1 x + ... + a_m x^m) / (1 + |b_1 x + ... + b_n x^n|), a and b learned (safe Pade units, Molina et al.
    1907.06732; of a Kolmogorov-Arnold Transformer, Yang & Wang 2409.10594).
    """

    kind: ClassVar[str | None] = "rational"

    numerator: Order = 5
    """m, the highest power above."""
    denominator: Order = 4
    """n, the highest power below."""

    def over(self, hidden: int) -> RationalPlan:
        weights = (
            vector("above", self.numerator, Init("leading", 1, 1.0)),
            vector("offset", 1, ZEROS),
            vector("below", self.denominator, Init("constant", 0.1)),
        )
        cost = Cost(flops=2.0 * (self.numerator + self.denominator + 1) * hidden, activations=3 * hidden)
        return RationalPlan(
            kind=self.label, weights=weights, cost=cost, numerator=self.numerator, denominator=self.denominator
        )
