"""Elman's exclusive or in time, as a document names it. Elman 1990, Finding structure in time, Cognitive Science 14."""

from typing import ClassVar

from evo.tasks.synthetic_spec import SyntheticSpec


class XorSpec(SyntheticSpec):
    """Triples of bits, the third the exclusive or of the two before it; every next bit is trained, the third scored."""

    kind: ClassVar[str | None] = "xor"
    builder: ClassVar[str] = "evo.tasks.xor.task:XorTask"

    @property
    def smallest_vocab(self) -> int:
        """Two bits."""
        return 2
