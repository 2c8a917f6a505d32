"""Short convolutions of queries, keys and values: what each is made of besides its own token."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import Weight, taps
from evo.dsl.spec import AsTuple, Fault, Spec

Tapped = Literal["q", "k", "v"]


def wrong_names(names: Sequence[str], known: Collection[str], field: str) -> Iterator[Fault]:
    """Names in a list that no projection has, or that stand in it twice."""
    for index, name in enumerate(names):
        if name not in known or name in names[:index]:
            message = f"there is no projection '{name}' here" if name not in known else f"'{name}' stands above"
            yield Fault("EVO308", (field, index), message, "remove it")


class TapsSpec(Spec):
    """act(conv(p)) of a projection p, causal and each channel by itself (Primer, So et al. 2109.08668)."""

    size: Annotated[int, Field(ge=2, le=64), Gene(2, 8, "+1")] = 3
    """Taps: how many tokens each query, key or value is made of, its own included."""
    on: Annotated[tuple[Tapped, ...], AsTuple, Field(min_length=1), FIXED] = ("q", "k", "v")
    """The projections that have one."""
    residual: Annotated[bool, FIXED] = False
    """Whether the projection itself is added (Inkling, Canon layers)."""
    act: Annotated[Literal["none", "silu"], FIXED] = "none"
    """What follows the taps, before what is added."""

    def weights(self, sizes: Mapping[str, tuple[int, int]]) -> list[Weight]:
        """The taps of each; sizes: the output and input width of the projections."""
        return [taps(f"{name}_taps", sizes[name][0], self.size) for name in self.on]
