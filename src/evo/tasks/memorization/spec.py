"""Facts learned by heart, as a document names them. MAD: Poli et al. 2024 (https://arxiv.org/abs/2403.17844)."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.tasks.synthetic_spec import SyntheticSpec


class MemorizationSpec(SyntheticSpec):
    """Keys, each before a mark that asks for its value, by a mapping that is the same in all sequences (context 32).

    Values are never shown, so nothing can be read off the sequence.
    """

    kind: ClassVar[str | None] = "memorization"
    builder: ClassVar[str] = "evo.tasks.memorization.task:MemorizationTask"
    needs_causal: ClassVar[bool] = False

    vocab: Annotated[int, Field(ge=4, le=65_536), FIXED] = 256
    """Symbols: keys, values and the mark."""
    examples: Annotated[int, Field(ge=1, le=1_000_000), FIXED] = 256
    """Training sequences that there are."""

    @property
    def smallest_vocab(self) -> int:
        """All symbols."""
        return self.vocab
