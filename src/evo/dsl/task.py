"""What a task says of itself before it is opened: its score's name and direction, and what it asks of an organism."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evo.dsl.organism import OrganismSpec
from evo.dsl.spec import Fault, Spec
from evo.dsl.yaml import Data


@dataclass(frozen=True)
class Score:
    """The name of a number that models are compared by, and which way is better.

    name: its key in every mapping of scores and in JSON. uniform: what a model gets that gives every token the same
    probability. unit: as a table's heading writes it. perfect: the best that there can be.
    """

    name: str
    lower_is_better: bool
    uniform: float
    unit: str = ""
    perfect: float = 0.0

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    @property
    def comparative(self) -> str:
        """What a better value is: lower, or higher."""
        return "lower" if self.lower_is_better else "higher"

    @property
    def superlative(self) -> str:
        """What the best value is: the lowest, or the highest."""
        return "lowest" if self.lower_is_better else "highest"

    def is_better(self, one: float, two: float) -> bool:
        """Whether one value is strictly better than another."""
        return self.cost(one) < self.cost(two)

    def cost(self, value: float) -> float:
        """The value with its sign such that less is better: a key to sort by."""
        return value if self.lower_is_better else -value

    def remainder(self, value: float) -> float:
        """How far a value is from perfect: 0 there, 1 at a uniform guess. It compares scores of different names."""
        return (value - self.perfect) / (self.uniform - self.perfect)


SPARE, FEW = 8, 4096
"""A vocabulary of so many times what a task needs, or of so few tokens, is still taken for one that is meant."""


class TaskSpec(Spec):
    """The base of every task's spec. The task itself is made by `evo.tasks.base.open_task`."""

    primary: ClassVar[Score]
    builder: ClassVar[str]
    """`module:function` that makes the task of (spec, root)."""
    needs_causal: ClassVar[bool] = True
    """Whether an output that depends on later inputs would know what it is to predict."""
    tokens_are: ClassVar[str] = "tokens"
    """What a person calls its tokens."""

    def is_plausible(self, task: Any, value: float) -> bool:
        """Whether a model may have come to such a primary score by learning; True where its kind cannot say.

        task: the opened task of this spec.
        """
        del task, value
        return True

    @property
    def tokens_given(self) -> int:
        """How many tokens at the start of each row are read and not predicted: a mixer may read these both ways."""
        return 0

    @property
    def smallest_vocab(self) -> int:
        """How many token ids it uses, from 0 on; an organism may have more."""
        raise TypeError(f"{type(self).__name__} does not say how many tokens there are")

    def relocated(self, before: Path, after: Path) -> dict[str, Data]:
        """Fields that name files relative to the document, as a document in another folder has to write them.

        before, after: the folders that relative paths start from.
        """
        del before, after
        return {}

    def missing(self, root: Path) -> Iterator[Fault]:
        """Faults of files that it names and that are not there; paths are relative to this spec.

        root: the folder that relative paths start from.
        """
        del root
        return iter(())

    def problems_with(self, organism: OrganismSpec) -> Iterator[Fault]:
        """Faults of meaning that need the organism; paths start at the document's root."""
        needed = self.smallest_vocab
        if organism.vocab < needed:
            message = f"{self.tokens_are} need a vocabulary of {needed}, this organism has {organism.vocab}"
            yield Fault("EVO341", ("organism", "vocab"), message, f"{needed} at least")
        elif organism.vocab > max(SPARE * needed, FEW):
            message = f"{self.tokens_are} need a vocabulary of {needed}: most of {organism.vocab:,} rows are never used"
            yield Fault("EVO347", ("organism", "vocab"), message, f"write {needed}, or choose another task", "warning")
