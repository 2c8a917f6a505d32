"""The next byte of a text, as a document names it."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from evo.base.paths import moved
from evo.dsl.genes import FIXED
from evo.dsl.task import Score, TaskSpec
from evo.dsl.yaml import Data


class BytesSpec(TaskSpec):
    """Predict the next byte of a text. Scores are bits per byte on held-out text."""

    kind: ClassVar[str | None] = "bytes"
    primary: ClassVar[Score] = Score("bits_per_byte", lower_is_better=True, uniform=8.0, unit="bits/byte")
    builder: ClassVar[str] = "evo.tasks.bytes.task:open_bytes"
    tokens_are: ClassVar[str] = "bytes"

    corpus: Annotated[str, Field(min_length=1), FIXED] = "shakespeare"
    """A corpus that ships with the package, or a path to a file or folder of text (relative to this document)."""

    def relocated(self, before: Path, after: Path) -> dict[str, Data]:
        """The corpus, where it is a path that starts at the document."""
        from evo.data.corpus import SHIPPED  # loads numpy

        if self.corpus in SHIPPED:
            return {}
        path = moved(self.corpus, before, after)
        return {"corpus": f"./{path}" if path in SHIPPED else path}

    def is_plausible(self, task: Any, value: float) -> bool:
        """Whether it does not leave compressors far behind; see `evo.tasks.bytes.plausible`."""
        return task.is_plausible(value)

    @property
    def smallest_vocab(self) -> int:
        """256."""
        return 256
