"""Associative recall in context, as a document names it. MAD: Poli et al. 2024 (https://arxiv.org/abs/2403.17844)."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.organism import OrganismSpec
from evo.dsl.spec import Fault
from evo.tasks.synthetic_spec import SyntheticSpec


class RecallSpec(SyntheticSpec):
    """Keys and values in turn; a key that came before asks for the value it had (MAD, multi-query; context 128).

    The vocabulary is halved into keys and values; each sequence has a mapping of its own. All next symbols are trained
    on, recalled values are scored.
    """

    kind: ClassVar[str | None] = "recall"
    builder: ClassVar[str] = "evo.tasks.recall.task:RecallTask"
    noise: ClassVar[float] = 0.0
    noise_vocab: ClassVar[int] = 0

    vocab: Annotated[int, Field(ge=4, le=65_536), FIXED] = 16
    """Symbols: keys and values."""

    @property
    def smallest_vocab(self) -> int:
        """All symbols."""
        return self.vocab


class NoisyRecallSpec(SyntheticSpec):
    """Recall with pairs of noise between the pairs that count (MAD; context 128)."""

    kind: ClassVar[str | None] = "noisy_recall"
    builder: ClassVar[str] = "evo.tasks.recall.task:RecallTask"

    vocab: Annotated[int, Field(ge=4, le=65_536), FIXED] = 32
    """Symbols: keys, values and noise."""
    noise_vocab: Annotated[int, Field(ge=1, le=65_532), FIXED] = 16
    """How many of them are noise."""
    noise: Annotated[float, Field(ge=0, lt=1), FIXED] = 0.2
    """The share of pairs that are noise."""

    @property
    def smallest_vocab(self) -> int:
        """All symbols."""
        return self.vocab

    def problems_with(self, organism: OrganismSpec) -> Iterator[Fault]:
        """Too little left for keys and values."""
        yield from super().problems_with(organism)
        if self.vocab - self.noise_vocab < 4:
            message = f"{self.vocab} symbols of which {self.noise_vocab} are noise leave no two keys and two values"
            yield Fault("EVO341", ("train", "task"), message, "raise vocab, or lower noise_vocab")


class FuzzyRecallSpec(SyntheticSpec):
    """Recall of values of up to three symbols under keys of up to three (MAD; context 128).

    Keys have one to `key_size` symbols in training and `key_size` where they are scored; one symbol pads on the left.
    """

    kind: ClassVar[str | None] = "fuzzy_recall"
    builder: ClassVar[str] = "evo.tasks.recall.fuzzy:FuzzyRecallTask"

    vocab: Annotated[int, Field(ge=7, le=130), FIXED] = 16
    """Symbols: keys, values and the padding."""
    key_size: Annotated[int, Field(ge=1, le=3), FIXED] = 3
    """The most symbols of a key."""
    value_size: Annotated[int, Field(ge=1, le=3), FIXED] = 3
    """The most symbols of a value."""

    @property
    def smallest_vocab(self) -> int:
        """All symbols."""
        return self.vocab
