"""Scores that are mixed: of heads, and of neighbouring queries and keys."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import ZEROS, Weight
from evo.dsl.spec import Fault, Spec

Group = Annotated[int, Field(ge=1, le=1024), Gene(1, 8, "x2"), WIDENING]
"""It grows with the number of heads, which are whole groups."""


class MixScoresSpec(Spec):
    """What is added to the products q k of a head before the softmax, and to its weights after it: a learned sum of
    those of the heads of its group (talking heads, Shazeer et al. 2003.02436), of the latest queries, and of the keys
    around (multi-token attention, Golovneva et al. 2504.00927)."""

    before: Group = 1
    """Heads of a group whose products are mixed before the softmax; with one query and key, 1 mixes nothing."""
    after: Group = 1
    """Heads of a group whose weights are mixed after it; 1 mixes nothing."""
    queries: Annotated[int, Field(ge=1, le=64), Gene(1, 8, "+1")] = 1
    """How many of the latest queries are mixed before the softmax, the own one included."""
    keys: Annotated[int, Field(ge=1, le=255), Gene(1, 15, "+1")] = 1
    """How many keys around each, itself included; of an even number, one more lies before it."""

    @property
    def numbers(self) -> int:
        """How many products of a head's group each product is a sum of."""
        return self.before * self.queries * self.keys

    @property
    def meets_neighbours(self) -> bool:
        """Whether products of other queries or keys are mixed in."""
        return self.queries * self.keys > 1

    def weights(self, heads: int) -> list[Weight]:
        """Rows of a head, zero at first, when nothing is added."""
        sizes = {"mix_before": self.numbers, "mix_after": self.after}
        axes = ("channel", "taps")
        return [Weight(name, (heads, size), ZEROS, axes, "vector") for name, size in sizes.items() if size > 1]

    def faults(self, heads: int) -> Iterator[Fault]:
        """What cannot be with so many heads."""
        for name in ("before", "after"):
            if heads % getattr(self, name):
                message = f"groups of {getattr(self, name)} do not divide {heads} heads"
                yield Fault("EVO308", (name,), message, f"these do: {_divisors(heads)}")
        if self.numbers == self.after == 1:
            yield Fault("EVO308", (), "it mixes nothing", "raise before, after, queries or keys, or leave it out")


def _divisors(heads: int) -> str:
    return ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
