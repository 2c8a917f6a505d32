"""Symbols among blanks, as a document names them. MAD: Poli et al. 2024 (https://arxiv.org/abs/2403.17844)."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.tasks.synthetic_spec import SyntheticSpec


class SelectiveCopySpec(SyntheticSpec):
    """Symbols with blanks scattered among them, a mark, and blanks that ask for the symbols in order (context 256)."""

    kind: ClassVar[str | None] = "selective_copy"
    builder: ClassVar[str] = "evo.tasks.selective_copy.task:SelectiveCopyTask"
    needs_causal: ClassVar[bool] = False

    vocab: Annotated[int, Field(ge=4, le=65_536), FIXED] = 16
    """Symbols: those that are copied, the blank and the mark."""
    copied: Annotated[int, Field(ge=1, le=4_096), FIXED] = 16
    """Symbols to copy."""

    @property
    def smallest_vocab(self) -> int:
        """All symbols."""
        return self.vocab
