"""Scores that are mixed: of heads, and of neighbouring queries and keys."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import ZEROS, Init, Weight, linear, vector
from evo.dsl.references import placed
from evo.dsl.spec import AsTuple, Fault, Spec

Group = Annotated[int, Field(ge=1, le=1024), Gene(1, 8, "x2"), WIDENING]
"""It grows with the number of heads, which are whole groups."""


Stage = Literal["before", "after"]
Sayer = Literal["query", "key"]


class ComposeSpec(Spec):
    """Each token says what sums of all heads' scores are added to each head's: sum over i of out_i (into_i . x) and
    tanh(g) x, into, out and g made of the query's token, and of the key's (dynamically composable heads, Xiao et al.
    2405.08553)."""

    called: ClassVar[str | None] = "this composition"

    rank: Annotated[int, Field(ge=1, le=64), Gene(1, 4, "+1")] = 2
    """How many sums of heads there are."""
    hidden: Annotated[int | None, Field(ge=1, le=65536), Gene(8, 128, "x2", optional=True)] = None
    """Channels, behind a gelu, that the vectors of each way are made of; 2 rank heads if left out."""
    by: Annotated[tuple[Sayer, ...], AsTuple, Field(min_length=1), FIXED] = ("query", "key")
    """Whose token says it: the query's, the key's, or both, whose sums are added."""
    on: Annotated[tuple[Stage, ...], AsTuple, Field(min_length=1), FIXED] = ("before", "after")
    """What is composed: products before the softmax, weights after it."""

    @property
    def ways(self) -> list[tuple[Stage, Sayer]]:
        """What is composed by whom, in order."""
        return [(stage, sayer) for stage in self.on for sayer in self.by]

    def sizes(self, heads: int) -> tuple[int, int]:
        """How many channels each way has, and how many numbers it makes of them."""
        return self.hidden or 2 * self.rank * heads, 2 * self.rank * heads

    def weights(self, width: int, heads: int) -> list[Weight]:
        """A map to the channels of each way, maps of these to vectors, and a map to the gains, which are 0 at first."""
        ways, (hidden, numbers) = len(self.ways), self.sizes(heads)
        shape = (ways, numbers, hidden)
        return [
            linear("compose", ways * hidden, width),
            Weight("compose_vectors", shape, Init("normal", 0.1 * hidden**-0.5), ("stack", "out", "in"), "matrix"),
            replace(linear("compose_gains", ways * heads, width), init=ZEROS),
        ]

    def kept(self, heads: int) -> int:
        """Numbers that are kept of each key."""
        return self.on_keys * (2 * self.rank + 1) * heads

    @property
    def on_keys(self) -> int:
        """How many ways are those of keys."""
        return len(self.on) * ("key" in self.by)

    def faults(self) -> Iterator[Fault]:
        """What cannot be; paths are relative to this spec."""
        for name in ("by", "on"):
            values: tuple[str, ...] = getattr(self, name)
            for index, value in enumerate(values):
                if value in values[:index]:
                    yield Fault("EVO308", (name, index), f"'{value}' stands above", "remove it")


class MixScoresSpec(Spec):
    """What is added to the products q k of a head before the softmax, and to its weights after it: a learned sum of
    those of the heads of its group (talking heads, Shazeer et al. 2003.02436), of the latest queries, and of the keys
    around (multi-token attention, Golovneva et al. 2504.00927); sums that tokens say; what a network makes of the
    products and biases of all heads."""

    before: Group = 1
    """Heads of a group whose products are mixed before the softmax; with one query and key, 1 mixes nothing."""
    after: Group = 1
    """Heads of a group whose weights are mixed after it; 1 mixes nothing."""
    queries: Annotated[int, Field(ge=1, le=64), Gene(1, 8, "+1")] = 1
    """How many of the latest queries are mixed before the softmax, the own one included."""
    keys: Annotated[int, Field(ge=1, le=255), Gene(1, 15, "+1")] = 1
    """How many keys around each, itself included; of an even number, one more lies before it."""

    compose: ComposeSpec | None = None
    """Sums over all heads that tokens say (DCMHA); none if left out."""
    network: Annotated[int | None, Field(ge=1, le=65536), Gene(8, 64, "x2", optional=True)] = None
    """Hidden channels of a network that reads the products of all heads at a pair, and what the position encoding adds
    to them, and whose outputs are added to both (DAPE, Zheng et al. 2405.14722: 32); none if left out."""

    @property
    def numbers(self) -> int:
        """How many products of a head's group each product is a sum of."""
        return self.before * self.queries * self.keys

    @property
    def meets_neighbours(self) -> bool:
        """Whether products of other queries or keys are mixed in."""
        return self.queries * self.keys > 1

    def weights(self, width: int, heads: int) -> list[Weight]:
        """Rows of a head, zero at first, when nothing is added; what tokens say it by; the network."""
        sizes = {"mix_before": self.numbers, "mix_after": self.after}
        axes = ("channel", "taps")
        found = [Weight(name, (heads, size), ZEROS, axes, "vector") for name, size in sizes.items() if size > 1]
        found += self.compose.weights(width, heads) if self.compose is not None else []
        if (hidden := self.network) is not None:
            found.append(Weight("score_in", (hidden, 2 * heads), Init("normal", (2 * heads) ** -0.5), axes, "vector"))
            found.append(vector("score_in_bias", hidden, ZEROS))
            found.append(Weight("score_out", (heads, hidden), Init("normal", hidden**-0.5), axes, "vector"))
        return found

    def pair_flops(self, heads: int) -> float:
        """Operations for each query and key."""
        flops = 2.0 * heads * ((self.numbers > 1) * self.numbers + (self.after > 1) * self.after)
        if self.compose is not None:
            flops += len(self.compose.ways) * heads * (4.0 * self.compose.rank + 2.0)
        return flops + 6.0 * heads * (self.network or 0)

    def faults(self, heads: int) -> Iterator[Fault]:
        """What cannot be with so many heads."""
        for name in ("before", "after"):
            if heads % getattr(self, name):
                message = f"groups of {getattr(self, name)} do not divide {heads} heads"
                yield Fault("EVO308", (name,), message, f"these do: {_divisors(heads)}")
        if self.compose is not None:
            yield from (placed(fault, "compose") for fault in self.compose.faults())
        if self.numbers == self.after == 1 and self.compose is None and self.network is None:
            yield Fault(
                "EVO308",
                (),
                "it mixes nothing",
                "raise before, after, queries or keys, say compose or network, or leave it out",
            )


def _divisors(heads: int) -> str:
    return ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
