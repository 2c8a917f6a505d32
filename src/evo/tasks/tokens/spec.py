"""The next token of a text, as a document names it."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from evo.base.paths import moved
from evo.dsl.genes import FIXED
from evo.dsl.yaml import Data
from evo.tasks.bytes.spec import BytesSpec, Text


class TokensSpec(BytesSpec):
    """Predict the next token of a text. Scores are bits per byte, to be compared with those of any tokenizer."""

    kind: ClassVar[str | None] = "tokens"
    builder: ClassVar[str] = "evo.tasks.tokens.task:open_tokens"
    tokens_are: ClassVar[str] = "tokens"

    tokenizer: Annotated[Text, Field(examples=["tokenizer.json"]), FIXED]
    """A tokenizer.json of the `tokenizers` package, relative to this document."""
    tokens: Annotated[int, Field(ge=1, le=1_000_000, examples=[32_000]), FIXED]
    """How many tokens the tokenizer has, special ones included."""

    def relocated(self, before: Path, after: Path) -> dict[str, Data]:
        """The corpora and the tokenizer."""
        return {**super().relocated(before, after), "tokenizer": moved(self.tokenizer, before, after)}

    @property
    def smallest_vocab(self) -> int:
        """`tokens`."""
        return self.tokens
