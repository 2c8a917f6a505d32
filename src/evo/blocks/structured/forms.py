"""Linear maps with fewer numbers than a matrix: what their forms are called, and the weights and work of each."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from evo.dsl.acts import Word
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import Axis, Init, Weight, linear
from evo.dsl.spec import Spec


class FormFields(Spec):
    """What maps of a form say; a map from n to m channels is made of a weight of its name, and of NAME_inner."""

    form: Literal["monarch", "blocks", "kronecker", "low_rank"] = "monarch"
    """What a map is. blocks: blocks on its diagonal. monarch: two of these with their channels interleaved between
    them. kronecker: the Kronecker product of a map of blocks and one of channels. low_rank: two maps by way of `rank`
    channels."""
    blocks: Annotated[int, Field(ge=2, le=4096), Gene(2, 16, "x2")] = 4
    """How many blocks there are, or parts that a Kronecker product's first factor maps."""
    rank: Annotated[int, Field(ge=1, le=65536), Gene(4, 256, "x2"), WIDENING] = 32
    """Channels that a map of low rank passes."""
    factor_act: Annotated[Word, FIXED] = "identity"
    """What channels pass between the two factors of a map, which is then no matrix (silu with low_rank: CoLA, Liu et
    al. 2502.10940)."""

    @property
    def unread(self) -> frozenset[str]:
        spared = {"factor_act"} if self.form == "blocks" else set[str]()
        return super().unread | spared | {"blocks" if self.form == "low_rank" else "rank"}

    def undivided(self, *channels: int) -> Iterator[int]:
        """Those of some numbers of channels that cannot be cut into the blocks."""
        return (count for count in channels if self.form != "low_rank" and count % self.blocks)

    def factors(self, name: str, out: int, into: int, gain: float, writes: bool) -> list[Weight]:
        """The weights of one map, drawn so that their product has the variance of a plain one times gain squared."""
        inner, b = f"{name}_inner", self.blocks
        if self.form == "low_rank":
            return [linear(inner, self.rank, into), linear(name, out, self.rank, gain, writes_residual=writes)]
        if self.form == "kronecker":
            return [linear(inner, b, b), linear(name, out // b, into // b, gain, writes_residual=writes)]
        if self.form == "blocks":
            return [_stack(name, b, out // b, into // b, gain, writes)]
        met = min(out, into) // b
        return [_stack(inner, b, met, into // b, 1.0, False), _stack(name, b, out // b, met, gain, writes)]

    def form_flops(self, out: int, into: int) -> float:
        """Operations of one map for a token."""
        b = self.blocks
        if self.form == "kronecker":
            return 2.0 * (b * (out // b) * (into // b) + b * b * (out // b))
        if self.form == "low_rank":
            return 2.0 * self.rank * (out + into)
        return 2.0 * (out * into // b if self.form == "blocks" else (min(out, into) // b) * (out + into))

    def activated(self, out: int, into: int) -> int:
        """Channels of one map that pass an activation between its factors."""
        return 0 if self.factor_act == "identity" else self.between(out, into)

    def between(self, out: int, into: int) -> int:
        """Channels between the two factors of one map, 0 where it is one."""
        return {"low_rank": self.rank, "kronecker": out, "monarch": min(out, into), "blocks": 0}[self.form]


def _stack(name: str, blocks: int, out: int, into: int, gain: float, writes: bool) -> Weight:
    axes: tuple[Axis, ...] = ("stack", "out", "in")
    draw = Init("normal", gain * into**-0.5)
    return Weight(name, (blocks, out, into), draw, axes, "matrix", writes_residual=writes)
