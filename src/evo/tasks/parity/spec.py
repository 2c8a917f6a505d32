"""The parity of all bits so far, as a document names it."""

from typing import ClassVar

from evo.tasks.synthetic_spec import SyntheticSpec


class ParitySpec(SyntheticSpec):
    """Random bits; each position is asked whether the ones so far are odd. It takes a state, not a look back.

    Fixed-depth attention and decays between 0 and 1 do not learn it at every length (Hahn 2020; Grazzi et al. 2024).
    """

    kind: ClassVar[str | None] = "parity"
    builder: ClassVar[str] = "evo.tasks.parity.task:ParityTask"
    needs_causal: ClassVar[bool] = False

    @property
    def smallest_vocab(self) -> int:
        """Two bits."""
        return 2
