"""Multi-query associative recall, as a document names it. Arora et al. 2023 (https://arxiv.org/abs/2312.04927)."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.tasks.synthetic_spec import SyntheticSpec


class MqarSpec(SyntheticSpec):
    """Pairs of a key and a value first; each key comes once more and asks for its value (Zoology; context 64 to 512).

    Distances to the query follow a power law, other places hold random symbols; queries alone are trained and scored.
    """

    kind: ClassVar[str | None] = "mqar"
    builder: ClassVar[str] = "evo.tasks.mqar.task:MqarTask"
    needs_causal: ClassVar[bool] = False

    vocab: Annotated[int, Field(ge=8, le=262_144), FIXED] = 8_192
    """Symbols: keys in the lower half, values in the upper."""
    pairs: Annotated[int, Field(ge=1, le=4_096), FIXED] = 8
    """Pairs of a sequence."""
    power: Annotated[float, Field(gt=0, le=1), FIXED] = 0.01
    """The exponent of the power law; 1 is uniform."""
    examples: Annotated[int, Field(ge=1, le=1_000_000), FIXED] = 100_000
    """Training sequences that there are."""

    @property
    def smallest_vocab(self) -> int:
        """All symbols; more than the pairs need."""
        return self.vocab
