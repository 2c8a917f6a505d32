"""The next byte of a text, as a document names it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from evo.base.paths import moved
from evo.data.named import SHIPPED, CorpusError, find_corpus
from evo.dsl.genes import FIXED
from evo.dsl.spec import AsTuple, Fault, ListOf
from evo.dsl.task import Score, TaskSpec
from evo.dsl.yaml import Data

Text = Annotated[str, Field(min_length=1)]


class BytesSpec(TaskSpec):
    """Predict the next byte of a text. Scores are bits per byte on held-out text."""

    kind: ClassVar[str | None] = "bytes"
    primary: ClassVar[Score] = Score("bits_per_byte", lower_is_better=True, uniform=8.0, unit="bits/byte")
    builder: ClassVar[str] = "evo.tasks.bytes.task:open_bytes"
    tokens_are: ClassVar[str] = "bytes"

    corpus: Annotated[tuple[Text, ...], AsTuple, ListOf(bare=True), Field(min_length=1), FIXED] = ("shakespeare",)
    """A corpus that ships with the package, or a path to a file or folder of text (relative to this document); or a
    list of them, of which each has an equal share of the rows and of the score."""

    given: Annotated[int, Field(ge=0), FIXED] = 0
    """The first so many bytes of each window are read and not predicted, as a prompt is: a mixer with the stencil
    `{kind: prefix}` may read them both ways (prefix language modelling, Raffel et al. 2020)."""

    @property
    def tokens_given(self) -> int:
        """`given`."""
        return self.given

    def relocated(self, before: Path, after: Path) -> dict[str, Data]:
        """The corpora, where one is a path that starts at the document."""
        if all(name in SHIPPED for name in self.corpus):
            return {}
        paths = [name if name in SHIPPED else _path(moved(name, before, after)) for name in self.corpus]
        return {"corpus": paths[0] if len(paths) == 1 else list[Data](paths)}

    def missing(self, root: Path) -> Iterator[Fault]:
        """The corpora that are neither shipped nor there."""
        for index, name in enumerate(self.corpus):
            try:
                find_corpus(name, root)
            except CorpusError as error:
                where = ("corpus",) if len(self.corpus) == 1 else ("corpus", index)
                yield Fault("EVO500", where, error.message, error.help)

    def is_plausible(self, task: Any, value: float) -> bool:
        """Whether it does not leave compressors far behind; see `evo.tasks.bytes.plausible`."""
        return task.is_plausible(value)

    @property
    def smallest_vocab(self) -> int:
        """256."""
        return 256


def _path(path: str) -> str:
    """A path that is not the name of a shipped corpus."""
    return f"./{path}" if path in SHIPPED else path
