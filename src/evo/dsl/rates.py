"""How learning rates follow widths: what each kind is called, what it reads, and what it means.

A rate that suits one width is too large for a wider network, whose outputs are sums over more inputs. With rates by
width, what a step changes about the activations does not depend on the width, so a rate found for one suits all.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.plan import Weight
from evo.dsl.spec import Spec

Step = Callable[[int, int], float]
"""About the spectral norm of a rule's update of a (rows, columns) matrix at a rate of 1."""


class RatesSpec(Spec):
    """What the peak learning rate of each weight is multiplied by.

    Tables, gains and biases keep theirs: no entry of what they give is a sum that grows with the width. A table that is
    the readout too goes by the readout. Weight decay by step stays as it was.
    """

    base: Annotated[int, Field(ge=1, le=1_000_000, examples=[128])]
    """The size at which rates are as they are written: that of the network that they were found for."""

    def factor(self, weight: Weight, width: int, step: Step) -> float:
        """Of one weight of an organism of a width, under a rule whose updates have such norms."""
        if not (weight.is_linear or weight.reads_out):
            return 1.0
        rows, columns = weight.shape[-2:]
        return self.of_map(rows, columns, width, step)

    @abstractmethod
    def of_map(self, rows: int, columns: int, width: int, step: Step) -> float:
        """The same for a linear map (rows, columns)."""


class MaximalUpdateRates(RatesSpec):
    """Maximal update parametrisation (muP, Yang et al. 2022): maps learn at base / width of the rate under AdamW.

    All maps of an organism alike, so the ratios of their rates stay those of the base. `base` is a width of the stream.
    Initial weights are evo's own, with variance 1 / fan-in inside, so what muP asks for beyond rates is left to the
    document: `scale` of an attention whose heads get wider, and `readout.init` near 0, as it advises.
    """

    kind: ClassVar[str | None] = "mup"

    def of_map(self, rows: int, columns: int, width: int, step: Step) -> float:
        """See `RatesSpec.of_map`."""
        del rows, columns
        return step(self.base, self.base) / step(width, width)


class SpectralRates(RatesSpec):
    """The spectral condition (Yang, Simon and Bernstein 2023): each update has a norm of sqrt(fan-out / fan-in).

    Each map by its own shape, so the width inside a block counts too. Under AdamW that is base / fan-in, under Muon
    sqrt(min(1, fan-out / fan-in)). `base` is a fan-in.
    """

    kind: ClassVar[str | None] = "spectral"

    def of_map(self, rows: int, columns: int, width: int, step: Step) -> float:
        """See `RatesSpec.of_map`."""
        del width
        return math.sqrt(rows / columns) * step(self.base, self.base) / step(rows, columns)
