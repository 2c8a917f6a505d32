"""Scores that grow with position: queries are multiplied by a number that depends on where they stand."""

from typing import Annotated, Literal

from pydantic import Field

from evo.dsl.spec import Spec


class TemperatureSpec(Spec):
    """q * (1 + slope * ln(n)), n growing with the position (Llama 4, Ministral 3), q * n ** slope (Beam), or
    q * slope * ln(n) (scalable softmax, Nakanishi 2501.19399)."""

    slope: Annotated[float, Field(gt=0, le=100)] = 0.1
    """How fast it grows."""
    period: Annotated[int, Field(ge=1)] = 8192
    """After how many positions n is one more."""
    form: Literal["steps", "smooth", "power", "log"] = "steps"
    """steps: n = 1 + floor(p / period); smooth: n = max(p / period, 1); power: n = 1 + p / period, to the slope; log:
    the same n, and scores times slope ln(n) alone: with period 1, the log of how many keys there are."""
    first: Literal[0, 1] = 0
    """What p is at the first position: Llama 4 counts from 1."""

    @property
    def numbers(self) -> tuple[float, int, str, int]:
        """Slope, period, form and the number of the first position, for a plan."""
        return (self.slope, self.period, self.form, self.first)
