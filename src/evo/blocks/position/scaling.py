"""Scalings of rotary frequencies for contexts longer than the one trained on."""

import math
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import Gene
from evo.dsl.spec import Spec

Factor = Annotated[float, Field(gt=1, le=10_000), Gene(1.25, 16, "scale")]


class ScalingSpec(Spec):
    """A change of the rotary frequencies."""

    least_dims: ClassVar[int] = 2
    """The fewest rotated dimensions that it is defined for."""

    def frequencies(self, theta: float, dims: int, context: int) -> list[float]:
        """The angular frequency of each of the dims / 2 pairs, in radians per token."""
        raise NotImplementedError

    def amplitude(self) -> float:
        """What cosine and sine are multiplied by."""
        return 1.0


def plain_frequencies(theta: float, dims: int) -> list[float]:
    """theta^(-2i / dims) (Su et al. 2021)."""
    return [theta ** (-2 * i / dims) for i in range(dims // 2)]


class LinearScaling(ScalingSpec):
    """Position interpolation: every position divided by the factor (Chen et al. 2023)."""

    kind: ClassVar[str | None] = "linear"

    factor: Factor
    """How many times longer the context becomes."""

    def frequencies(self, theta: float, dims: int, context: int) -> list[float]:
        return [frequency / self.factor for frequency in plain_frequencies(theta, dims)]


class NtkScaling(ScalingSpec):
    """NTK-aware: theta becomes theta * factor^(dims / (dims - 2)) (bloc97 2023)."""

    kind: ClassVar[str | None] = "ntk"
    least_dims: ClassVar[int] = 4

    factor: Factor
    """How many times longer the context becomes."""

    def frequencies(self, theta: float, dims: int, context: int) -> list[float]:
        base = theta * self.factor ** (dims / (dims - 2)) if dims > 2 else theta
        return plain_frequencies(base, dims)


class YarnScaling(ScalingSpec):
    """YaRN: fast pairs kept, slow pairs interpolated, a ramp between, and warmer attention (Peng et al. 2023)."""

    kind: ClassVar[str | None] = "yarn"

    factor: Factor
    """How many times longer the context becomes."""
    original: Annotated[int | None, Field(ge=1)] = None
    """The context before scaling; context / factor if left out."""
    beta_fast: Annotated[float, Field(gt=0)] = 32.0
    """Pairs that turn more often than this within the original context are kept."""
    beta_slow: Annotated[float, Field(gt=0)] = 1.0
    """Pairs that turn less often than this are interpolated."""

    def frequencies(self, theta: float, dims: int, context: int) -> list[float]:
        original = self.original or max(1, round(context / self.factor))
        low = max(math.floor(_turns_at(self.beta_fast, theta, dims, original)), 0)
        high = min(math.ceil(_turns_at(self.beta_slow, theta, dims, original)), dims - 1)
        span = max(high - low, 1e-3)
        ramps = [min(max((i - low) / span, 0.0), 1.0) for i in range(dims // 2)]
        plain = plain_frequencies(theta, dims)
        return [f * (1 - ramp) + f / self.factor * ramp for f, ramp in zip(plain, ramps, strict=True)]

    def amplitude(self) -> float:
        return 0.1 * math.log(self.factor) + 1.0


def _turns_at(turns: float, theta: float, dims: int, original: int) -> float:
    """The (fractional) pair that makes so many turns within the original context."""
    ratio = max(original / (turns * 2 * math.pi), 5e-324)
    pair = dims * math.log(ratio) / (2 * math.log(theta))
    return min(max(pair, -dims), 2 * dims)  # a base next to 1 has it at infinity; beyond the last pair all is alike
