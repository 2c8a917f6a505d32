"""What tasks have in common whose sequences are drawn by a rule: how many there are, and the seed that draws them."""

from typing import Annotated

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.task import Score, TaskSpec


class SyntheticSpec(TaskSpec):
    """Sequences of symbols, drawn by a rule. Scores are the share of asked targets that the model ranks first."""

    examples: Annotated[int, Field(ge=1, le=1_000_000), FIXED] = 12_800
    """Training sequences that there are; each step draws from them with replacement."""
    draw: Annotated[int, Field(ge=0, lt=2**63), FIXED] = 0
    """Seeds the sequences, those to train on and those held out."""

    @property
    def primary(self) -> Score:  # pyright: ignore[reportIncompatibleVariableOverride] - depends on the vocabulary
        """Accuracy; a uniform model is right once in so many symbols."""
        return Score("accuracy", lower_is_better=False, uniform=1 / self.smallest_vocab, perfect=1.0, unit="accuracy")
