"""The language of maps of values and outputs that each head chooses among."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import Weight, linear
from evo.dsl.spec import AsTuple, Fault, Spec


class HeadMapsSpec(Spec):
    """Each head has several maps of values and of outputs, and each token takes the best of them by sigmoids of maps of
    its own, times these (SwitchHead, Csordas et al. 2312.07987)."""

    called: ClassVar[str | None] = "these maps"

    count: Annotated[int, Field(ge=2, le=1024), Gene(2, 8, "x2")] = 4
    """How many maps a head has."""
    top: Annotated[int, Field(ge=1, le=64), Gene(1, 4, "+1")] = 2
    """How many of them a token takes."""
    on: Annotated[tuple[Literal["v", "o"], ...], AsTuple, Field(min_length=1), FIXED] = ("v", "o")
    """Of what there are several: values, outputs."""

    def faults(self) -> Iterator[Fault]:
        """What cannot be; paths are relative to this spec."""
        if self.top > self.count:
            message = f"a token cannot take {self.top} of {self.count} maps"
            yield Fault("EVO308", ("top",), message, "lower top, or raise count")
        for index, name in enumerate(self.on):
            if name in self.on[:index]:
                yield Fault("EVO308", ("on", index), f"'{name}' stands above", "remove it")

    def stacked(self, weight: Weight, heads: int) -> Weight:
        """A map of all heads as a stack of those of each, a head's own one after another."""
        out, into = weight.shape
        shape = (out // heads, into) if weight.name == "v" else (out, into // heads)
        stack = (heads * self.count, *shape)
        return replace(weight, shape=stack, axes=("stack", *weight.axes), share=self.top / self.count)

    def routers(self, width: int, heads: dict[str, int]) -> list[Weight]:
        """What tokens choose by. heads: how many there are of values, and of outputs."""
        return [linear(f"{name}_router", heads[name] * self.count, width) for name in self.on]
