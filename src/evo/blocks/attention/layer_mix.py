"""The language and the plan of keys and values that several layers give."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.organism import NAME, Name
from evo.dsl.plan import BlockPlan, Cost, Init, Weight
from evo.dsl.spec import AsTuple, Fault, ListOf, Spec

Pair = tuple[str, str]
"""The signals of keys and of values."""


@dataclass(frozen=True, kw_only=True)
class LayerMixPlan(BlockPlan):
    """gives: what its own keys and values are called for later ones, none if empty. reads: those of earlier layers."""

    builder: ClassVar[str] = "evo.blocks.attention.mixed_layers:MixedLayers"
    gives: tuple[str, ...]
    reads: tuple[Pair, ...]
    sizes: tuple[int, int, int]


class LayerMixSpec(Spec):
    """Keys and values of a head are learned sums of those that all heads of some layers project, its own at first
    (layer-integrated memory, Gerasimov et al. 2502.09245)."""

    called: ClassVar[str | None] = "this mix"

    to: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """A name under which later attentions may read its keys and values as they are projected."""
    of: Annotated[tuple[Name, ...], AsTuple, ListOf(bare=True), Field(max_length=64), FIXED] = ()
    """The names of the earlier ones that are mixed into its own."""
    apart: bool = False
    """Whether values have sums of their own; keys and values share them if not."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.of else frozenset({"apart"})

    def faults(self) -> Iterator[Fault]:
        """What cannot be; paths are relative to this spec."""
        if self.to is None and not self.of:
            yield Fault("EVO308", (), "nothing is mixed, and nothing given to be", "write `of` or `to`, or remove it")
        for index, name in enumerate(self.of):
            if name in self.of[:index]:
                yield Fault("EVO308", ("of", index), f"'{name}' stands above", "remove it")
            if name == self.to:
                message = "it would publish what it reads under the same name"
                yield Fault("EVO308", ("of", index), message, "give it another name")

    def child(self, groups: int, dim: int, values: int) -> LayerMixPlan:
        """The plan for so many key heads, and how wide their keys and values are."""
        columns = (1 + len(self.of)) * groups
        names = ("keys", *(("values",) if self.apart else ())) if self.of else ()
        own = Init("diagonal", 0, 1.0)
        weights = tuple(Weight(name, (groups, columns), own, ("channel", "channel")) for name in names)
        flops = 2.0 * groups * columns * (dim + values) if self.of else 0.0
        return LayerMixPlan(
            kind="layers mixed",
            weights=weights,
            cost=Cost(flops=flops, activations=columns * (dim + values) if self.of else 0),
            gives=() if self.to is None else _signals(self.to, groups, dim, values),
            reads=tuple(_signals(name, groups, dim, values) for name in self.of),
            sizes=(groups, dim, values),
        )


def _signals(name: str, groups: int, dim: int, values: int) -> Pair:
    """What projected keys and values of a name are called in a pass."""
    return f"raw keys of {name} ({groups} heads of {dim})", f"raw values of {name} ({groups} heads of {values})"
