"""The next byte of a text, as a document names it."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.task import Score, TaskSpec


class BytesSpec(TaskSpec):
    """Predict the next byte of a text. Scores are bits per byte on held-out text."""

    kind: ClassVar[str | None] = "bytes"
    primary: ClassVar[Score] = Score("bits_per_byte", lower_is_better=True, uniform=8.0, unit="bits/byte")
    builder: ClassVar[str] = "evo.tasks.bytes.task:open_bytes"
    tokens_are: ClassVar[str] = "bytes"

    corpus: Annotated[str, Field(min_length=1), FIXED] = "shakespeare"
    """A corpus that ships with the package, or a path to a file or folder of text (relative to this document)."""

    @property
    def smallest_vocab(self) -> int:
        """256."""
        return 256
