"""Scalings of rotary frequencies for contexts longer than the one trained on."""

import math
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.spec import AsTuple, Spec

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

    def faults(self, dims: int) -> str | None:
        """What keeps it from scaling so many rotated dimensions, if anything does."""
        del dims
        return None


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
    truncate: Annotated[bool, FIXED] = True
    """Whether the ramp begins and ends at whole pairs."""
    warmth: Annotated[float | None, Field(gt=0, le=1e3), FIXED] = None
    """What cosine and sine are multiplied by; 0.1 ln(factor) + 1 if left out."""

    def frequencies(self, theta: float, dims: int, context: int) -> list[float]:
        original = self.original or max(1, round(context / self.factor))
        low, high = (_turns_at(turns, theta, dims, original) for turns in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dims - 1)
        span = max(high - low, 1e-3)
        ramps = [min(max((i - low) / span, 0.0), 1.0) for i in range(dims // 2)]
        plain = plain_frequencies(theta, dims)
        return [f * (1 - ramp) + f / self.factor * ramp for f, ramp in zip(plain, ramps, strict=True)]

    def amplitude(self) -> float:
        return 0.1 * math.log(self.factor) + 1.0 if self.warmth is None else self.warmth


class Llama3Scaling(ScalingSpec):
    """Long waves interpolated, short ones kept, a blend between (Llama 3.1)."""

    kind: ClassVar[str | None] = "llama3"

    factor: Factor
    """How many times longer the context becomes."""
    original: Annotated[int | None, Field(ge=1)] = None
    """The context before scaling; context / factor if left out."""
    low: Annotated[float, Field(gt=0)] = 1.0
    """Waves that fit less often than this into the original context are interpolated."""
    high: Annotated[float, Field(gt=0)] = 4.0
    """Waves that fit more often than this are kept."""

    def frequencies(self, theta: float, dims: int, context: int) -> list[float]:
        original = self.original or max(1, round(context / self.factor))
        return [self._one(frequency, original) for frequency in plain_frequencies(theta, dims)]

    def _one(self, frequency: float, original: int) -> float:
        fits = original * frequency / (2 * math.pi)
        if fits < self.low or fits > self.high or self.low == self.high:
            return frequency / self.factor if fits < self.low else frequency
        share = (fits - self.low) / (self.high - self.low)
        return (1 - share) * frequency / self.factor + share * frequency


class LongRopeScaling(ScalingSpec):
    """A factor for each pair, one set within the original context and one beyond it (LongRoPE, Ding et al. 2024)."""

    kind: ClassVar[str | None] = "longrope"

    factors: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        AsTuple,
        Field(min_length=1, max_length=4096, examples=[[1.0, 2.0]]),
        FIXED,
    ]
    """What each frequency is divided by; those of the longer context, where the organism's is beyond the original."""
    warmth: Annotated[float, Field(gt=0, le=1e3), FIXED] = 1.0
    """What cosine and sine are multiplied by."""

    def faults(self, dims: int) -> str | None:
        if len(self.factors) == dims // 2:
            return None
        return f"{len(self.factors)} factors for {dims // 2} rotated pairs"

    def frequencies(self, theta: float, dims: int, context: int) -> list[float]:
        plain = plain_frequencies(theta, dims)
        return [frequency / factor for frequency, factor in zip(plain, self.factors, strict=True)]

    def amplitude(self) -> float:
        return self.warmth


class ProportionalScaling(ScalingSpec):
    """The fastest pairs of all the rotated width turn, the others stand still (Gemma 4)."""

    kind: ClassVar[str | None] = "proportional"

    share: Annotated[float, Field(gt=0, le=1), Gene(0.1, 1, "linear")] = 0.25
    """The share of pairs that turn."""
    factor: Annotated[float, Field(ge=1, le=10_000)] = 1.0
    """What the frequencies of these are divided by."""

    def frequencies(self, theta: float, dims: int, context: int) -> list[float]:
        turning = int(self.share * dims / 2)
        plain = plain_frequencies(theta, dims)
        return [frequency / self.factor if i < turning else 0.0 for i, frequency in enumerate(plain)]


def _turns_at(turns: float, theta: float, dims: int, original: int) -> float:
    """The (fractional) pair that makes so many turns within the original context."""
    ratio = max(original / (turns * 2 * math.pi), 5e-324)
    pair = dims * math.log(ratio) / (2 * math.log(theta))
    return min(max(pair, -dims), 2 * dims)  # a base next to 1 has it at infinity; beyond the last pair all is alike
