"""A number hidden in a text, as a document names it. Mohtashami and Jaggi 2023 (https://arxiv.org/abs/2305.16300)."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.tasks.synthetic_spec import SyntheticSpec


class PasskeySpec(SyntheticSpec):
    """A pass key somewhere in a text that says nothing, asked for at its end; digits alone are trained and scored.

    A model that cannot reach back to the key gets one digit in ten right. Tokens are bytes.
    """

    kind: ClassVar[str | None] = "passkey"
    builder: ClassVar[str] = "evo.tasks.passkey.task:PasskeyTask"
    tokens_are: ClassVar[str] = "bytes"

    digits: Annotated[int, Field(ge=1, le=64), FIXED] = 5
    """Digits of a key."""

    @property
    def smallest_vocab(self) -> int:
        """256."""
        return 256
