"""A sequence in one vector, as a document names it. MAD: Poli et al. 2024 (https://arxiv.org/abs/2403.17844)."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.tasks.synthetic_spec import SyntheticSpec


class CompressionSpec(SyntheticSpec):
    """Random symbols and a mark, at which the whole sequence must be readable from one vector (context 32).

    MAD gives that vector to a decoder beside the organism. Here the readout is the decoder: its vocabulary has an
    entry for each place and symbol, training asks for the symbol of one place drawn for each sequence, and the score is
    the share of all places whose symbol ranks first among the entries of the place.
    """

    kind: ClassVar[str | None] = "compression"
    builder: ClassVar[str] = "evo.tasks.compression.task:CompressionTask"
    needs_causal: ClassVar[bool] = False

    vocab: Annotated[int, Field(ge=3, le=1_024), FIXED] = 16
    """Symbols, the mark among them."""
    places: Annotated[int, Field(ge=1, le=255), FIXED] = 31
    """How many of the sequence's last symbols are asked for; the context holds them and the mark."""

    @property
    def smallest_vocab(self) -> int:
        """The symbols, then an entry for each place and symbol."""
        return self.vocab + self.places * (self.vocab - 1)
