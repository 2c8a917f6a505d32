"""The language and the plan of a choice of whole blocks by an index of their mean keys."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.select.indexed import ByIndexPlan, WeighedIndexed
from evo.blocks.select.pooled.spec import Pooling, entry_index, entry_pairs
from evo.blocks.select.spec import Asker, SelectSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.spec import Fault, Scope


@dataclass(frozen=True, kw_only=True)
class WholeBlocksPlan(ByIndexPlan):
    """A choice of the best `top` whole blocks of `size` tokens; tokens behind the last whole one are met besides."""

    builder: ClassVar[str] = "evo.blocks.select.pooled.module:WholeBlocks"


class WholeBlocksSelect(WeighedIndexed, SelectSpec):
    """The best `top` whole blocks by sum_h relu(q_h k) / sqrt(dim), k the normed and turned mean of a block's small
    keys, and the tokens behind the last whole block (Qwen4-Exp)."""

    kind: ClassVar[str | None] = "whole_blocks"

    size: Annotated[int, Field(ge=1), Gene(4, 128, "x2")]
    """Tokens of a block, which is there to be chosen from its last token on."""
    top: Annotated[int, Field(ge=1), Gene(1, 32, "x2")]
    """How many whole blocks a query meets at most; its own, once whole, is one like others."""
    weigh: Annotated[bool, FIXED] = False
    """Whether each token weighs the heads of its index, as in DeepSeek-V3.2; otherwise all count alike."""

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        if self.size > scope.context:
            message = f"no block of {self.size} tokens is whole within the context of {scope.context}"
            yield Fault("EVO360", (), message, "make size smaller, or leave the selection out")
        yield from self.index_faults(asker, self.heads)

    def chooser(self, scope: Scope, asker: Asker) -> WholeBlocksPlan:
        index = entry_index(Pooling(self.size), scope, asker, self, weighs=self.weigh)
        return WholeBlocksPlan(
            kind=self.label,
            children=(("index", index),),
            losses=("align",),
            top=self.top,
            size=self.size,
            local=0,
            align=self.align,
        )

    def pairs(self, context: int) -> int:
        whole, rest = divmod(context, self.size)
        behind = whole * self.size * (self.size - 1) // 2 + rest * (rest + 1) // 2
        return behind + self.size * entry_pairs(self.size, self.top, context)
