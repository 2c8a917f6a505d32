"""The language and the plan of values that tokens have whatever stands around them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.organism import NAME
from evo.dsl.plan import BlockPlan, Cost, Init, linear, matmul_flops, table, vector
from evo.dsl.spec import TOKENS, Fault, Scope, Spec

EVEN = Init("constant", 0.5)


@dataclass(frozen=True, kw_only=True)
class TokenValuesPlan(BlockPlan):
    """Rows of `groups` values, `values` wide. reads: how many channels of the input gates read, 0 without gates.
    to, source: the signal that rows are for later attentions, or are read from; "" for none."""

    builder: ClassVar[str] = "evo.blocks.attention.valued:TokenValues"
    groups: int
    values: int
    reads: int
    to: str
    source: str


class TokenValuesSpec(Spec):
    """Each value head has besides, from a table, a row of the token (value embeddings of the modded-nanogpt speedruns
    and of nanochat)."""

    called: ClassVar[str | None] = "these values"

    gate: Literal["none", "head"] = "none"
    """none: a v + b row with two learned numbers. head: v + 2 sigmoid(W x) row, a gate for each value head (nanochat).
    """
    reads: Annotated[int | None, Field(ge=1, le=32768), FIXED] = None
    """How many of the first channels of x gates read; all if left out."""
    to: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """A name under which later attentions may read its rows."""
    from_: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """The name of an earlier attention's rows, read instead of a table of its own."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset({"reads"}) if self.gate == "none" else frozenset()

    def faults(self, width: int) -> Iterator[Fault]:
        """What cannot be; paths are relative to this spec."""
        if self.gate != "none" and self.reads is not None and self.reads > width:
            yield Fault("EVO308", ("reads",), f"there are {width} channels", "lower reads")
        if self.to is not None and self.to == self.from_:
            message = "it would publish what it reads under the same name"
            yield Fault("EVO308", ("to",), message, "remove it")

    def rows(self, name: str | None, groups: int, values: int) -> tuple[str, ...]:
        """What rows of a name are called in a pass."""
        return () if name is None else (f"rows of {name} ({groups} values of {values})",)

    def inputs(self, groups: int, values: int) -> tuple[str, ...]:
        """What it reads of a pass."""
        return (TOKENS,) if self.from_ is None else self.rows(self.from_, groups, values)

    def child(self, scope: Scope, groups: int, values: int) -> TokenValuesPlan:
        """The plan for so many value heads of that width."""
        reads = 0 if self.gate == "none" else self.reads or scope.width
        own = () if self.from_ is not None else (table("table", scope.vocab, groups * values, scope.width**-0.5),)
        maps = (linear("gate", groups, reads),) if reads else ()
        shares = () if reads else (vector("shares", 2, EVEN),)
        return TokenValuesPlan(
            kind="token values",
            weights=(*own, *maps, *shares),
            cost=Cost(flops=matmul_flops(maps) + 3.0 * groups * values, activations=2 * groups * values),
            groups=groups,
            values=values,
            reads=reads,
            to="".join(self.rows(self.to, groups, values)),
            source="".join(self.rows(self.from_, groups, values)),
        )
