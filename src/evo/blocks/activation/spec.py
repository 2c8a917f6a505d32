"""The language and the plan of activations. A word is a function without settings; a spec has its own."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.acts import Word
from evo.dsl.genes import Gene
from evo.dsl.plan import BlockPlan, Cost, Init, vector
from evo.dsl.spec import Spec

Limit = Annotated[float, Field(gt=0, le=1e6), Gene(1, 50, "scale")]


class ActSpec(Spec):
    """An activation with settings of its own: a function of one value, or of a gate and what it gates."""

    def over(self, hidden: int) -> BlockPlan:
        """What computes it on `hidden` channels."""
        raise NotImplementedError


def act_child(act: str | Spec, hidden: int) -> tuple[tuple[str, BlockPlan], ...]:
    """The block of an activation as a child named `act`; none for a word."""
    return (("act", act.over(hidden)),) if isinstance(act, ActSpec) else ()


def act_word(act: str | Spec) -> str:
    """What people, and the kernels where it is a word, call it."""
    return act if isinstance(act, str) else act.label


@dataclass(frozen=True, kw_only=True)
class ClippedPlan(BlockPlan):
    """g sigmoid(slope g) (u + shift) of clipped g and u."""

    builder: ClassVar[str] = "evo.blocks.activation.module:Clipped"
    limit: float
    slope: float
    shift: float


class ClippedSpec(ActSpec):
    """g sigmoid(slope g) (u + shift) with g = min(gate, limit) and u = clamp(up, -limit, limit) (gpt-oss)."""

    kind: ClassVar[str | None] = "clipped"

    limit: Limit = 7.0
    """Bounds the gate from above and what it gates on both sides."""
    slope: Annotated[float, Field(gt=0, le=1e3)] = 1.702
    """1 is silu; 1.702 is near gelu."""
    shift: Annotated[float, Field(ge=-1e3, le=1e3)] = 1.0
    """Added to what is gated."""

    def over(self, hidden: int) -> ClippedPlan:
        cost = Cost(flops=8.0 * hidden, activations=hidden)
        return ClippedPlan(kind=self.label, cost=cost, limit=self.limit, slope=self.slope, shift=self.shift)


@dataclass(frozen=True, kw_only=True)
class SoftCappedPlan(BlockPlan):
    """Gate and up, each bounded by a tanh."""

    builder: ClassVar[str] = "evo.blocks.activation.module:SoftCapped"
    gate: float
    up: float


class SoftCappedSpec(ActSpec):
    """cap_g tanh(g / cap_g) sigmoid(g) * cap_u tanh(u / cap_u) (Inkling 2)."""

    kind: ClassVar[str | None] = "soft_capped"

    gate: Limit = 4.0
    """Bounds the gate's linear factor."""
    up: Limit = 25.0
    """Bounds what is gated."""

    def over(self, hidden: int) -> SoftCappedPlan:
        cost = Cost(flops=12.0 * hidden, activations=hidden)
        return SoftCappedPlan(kind=self.label, cost=cost, gate=self.gate, up=self.up)


@dataclass(frozen=True, kw_only=True)
class TopGaussPlan(BlockPlan):
    """An activation of what exceeds `deviations` standard deviations above the mean of the channels."""

    builder: ClassVar[str] = "evo.blocks.activation.module:TopGauss"
    deviations: float
    act: str


class TopGaussSpec(ActSpec):
    """act(relu(x - mean - z std)) over the channels, z the quantile of `share` under a Gaussian (Gemma 3n)."""

    kind: ClassVar[str | None] = "top_gauss"

    share: Annotated[float, Field(gt=0, lt=1), Gene(0.5, 0.99, "linear")] = 0.95
    """The share of channels that become zero, if they were normal."""
    act: Word = "gelu_tanh"
    """What follows."""

    def over(self, hidden: int) -> TopGaussPlan:
        from statistics import NormalDist

        deviations = NormalDist().inv_cdf(self.share)
        cost = Cost(flops=10.0 * hidden, activations=hidden)
        return TopGaussPlan(kind=self.label, cost=cost, deviations=deviations, act=self.act)


@dataclass(frozen=True, kw_only=True)
class XieluPlan(BlockPlan):
    """xIELU with learned curvatures."""

    builder: ClassVar[str] = "evo.blocks.activation.module:Xielu"
    slope: float


class XieluSpec(ActSpec):
    """p x² + b x where x > 0, else n (exp(x) - 1 - x) + b x, p and n learned (Huang & Schlag 2024; Apertus)."""

    kind: ClassVar[str | None] = "xielu"

    slope: Annotated[float, Field(ge=0, le=1e3)] = 0.5
    """b, the slope at zero."""

    def over(self, hidden: int) -> XieluPlan:
        start, above = math.log(math.expm1(0.8)), math.log(math.expm1(0.8 - min(self.slope, 0.79)))
        weights = (vector("positive", 1, Init("constant", start)), vector("negative", 1, Init("constant", above)))
        cost = Cost(flops=8.0 * hidden, activations=hidden)
        return XieluPlan(kind=self.label, weights=weights, cost=cost, slope=self.slope)
