"""The language and the plan of further activations of one value."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.activation.spec import ActSpec
from evo.dsl.genes import FIXED
from evo.dsl.plan import BlockPlan, Cost, Init, vector

Function = Literal[
    "elu",
    "selu",
    "mish",
    "hard_swish",
    "hard_sigmoid",
    "relu6",
    "gelu_10",
    "soft_sign",
    "sqrt_softplus",
    "sine",
    "laplace",
]


@dataclass(frozen=True, kw_only=True)
class PointwisePlan(BlockPlan):
    """A function by its name."""

    builder: ClassVar[str] = "evo.blocks.activation.pointwise.module:Pointwise"
    of: str


class PointwiseSpec(ActSpec):
    """A function of each channel by itself, without settings, that is no word: there is no kernel of it."""

    kind: ClassVar[str | None] = "pointwise"

    of: Function = "mish"
    """elu: x, or e^x - 1 below 0 (1511.07289). selu: the same times 1.0507, and 1.6733 below 0 (1706.02515). mish:
    x tanh(softplus(x)) (1908.08681). hard_sigmoid: relu6(x + 3) / 6; hard_swish: x times that (1905.02244). relu6:
    relu, at most 6. gelu_10: gelu, at most 10. soft_sign: x / (1 + |x|). sqrt_softplus: the root of softplus. sine:
    sin(x). laplace: (1 + erf((x - 0.707107) / (0.282095 sqrt(2)))) / 2 (Mega, 2209.10655)."""

    def over(self, hidden: int) -> PointwisePlan:
        return PointwisePlan(kind=self.label, cost=Cost(flops=8.0 * hidden, activations=hidden), of=self.of)


@dataclass(frozen=True, kw_only=True)
class LeakyReluPlan(BlockPlan):
    """A slope below 0, learned or not."""

    builder: ClassVar[str] = "evo.blocks.activation.pointwise.module:LeakyRelu"
    slope: float


class LeakyReluSpec(ActSpec):
    """x, or slope x below 0 (PReLU with a learned slope, He et al. 1502.01852)."""

    kind: ClassVar[str | None] = "leaky_relu"

    slope: Annotated[float, Field(ge=-10, le=10), FIXED] = 0.01
    """The slope below 0, or where it starts."""
    learned: bool = False
    """Whether it is learned, one for all channels."""

    def over(self, hidden: int) -> LeakyReluPlan:
        weights = (vector("below", 1, Init("constant", self.slope)),) if self.learned else ()
        cost = Cost(flops=2.0 * hidden, activations=hidden)
        return LeakyReluPlan(kind=self.label, weights=weights, cost=cost, slope=self.slope)


@dataclass(frozen=True, kw_only=True)
class LearnedSiluPlan(BlockPlan):
    """x sigmoid(b x)."""

    builder: ClassVar[str] = "evo.blocks.activation.pointwise.module:LearnedSilu"


class LearnedSiluSpec(ActSpec):
    """x sigmoid(b x), b learned, one for all channels (Swish, Ramachandran et al. 1710.05941)."""

    kind: ClassVar[str | None] = "learned_silu"

    slope: Annotated[float, Field(gt=0, le=1e3), FIXED] = 1.0
    """Where b starts; 1 is silu."""

    def over(self, hidden: int) -> LearnedSiluPlan:
        cost = Cost(flops=5.0 * hidden, activations=hidden)
        return LearnedSiluPlan(kind=self.label, weights=(vector("slope", 1, Init("constant", self.slope)),), cost=cost)
