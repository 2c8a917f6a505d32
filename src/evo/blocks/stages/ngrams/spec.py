"""The language and the plan of hashed n-grams."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.layers import StagePlan
from evo.dsl.organism import StageSpec
from evo.dsl.paths import MERGE
from evo.dsl.plan import Cost, gains, table
from evo.dsl.spec import AsTuple, Fault, Scope

STD = 0.02
PRIMES = (
    1000000007, 5915587277, 1500450271, 3267000013, 5754853343, 4093082899, 9576890767, 3628273133, 2860486313,
    5463458053, 3367900313,
)  # fmt: skip
"""The bases of the hash functions, one after another (BLT's)."""


@dataclass(frozen=True, kw_only=True)
class NgramsPlan(StagePlan):
    """A table of `rows` vectors for each of the `functions` hashes of n-grams of each of the `sizes`."""

    builder: ClassVar[str] = "evo.blocks.stages.ngrams.module:Ngrams"
    sizes: tuple[int, ...]
    rows: int
    functions: int


class NgramsSpec(StageSpec):
    """x_t plus a vector for each n-gram that ends at t, looked up by its hash (BLT, Pagnoni et al. 2024)."""

    kind: ClassVar[str | None] = "ngrams"

    sizes: Annotated[
        tuple[Annotated[int, Field(ge=2, le=16)], ...], AsTuple, Field(min_length=1, max_length=15), FIXED
    ] = (3, 4, 5, 6, 7, 8)
    """How many tokens the n-grams have."""
    rows: Annotated[int, Field(ge=1, le=10_000_000), Gene(256, 65536, "x2")] = 4096
    """Vectors of a size: an n-gram has that of its hash."""
    functions: Annotated[int, Field(ge=1, le=len(PRIMES)), Gene(1, 3, "+1")] = 1
    """Hash functions of each size, each with vectors of its own."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        for index, size in enumerate(self.sizes):
            if size in self.sizes[:index]:
                yield Fault("EVO355", ("sizes", index), f"n-grams of {size} tokens stand above", "remove it")
            elif size > scope.context:
                message = f"a context of {scope.context} tokens has no n-gram of {size}"
                yield Fault("EVO355", ("sizes", index), message, "remove it")

    def plan(self, scope: Scope) -> NgramsPlan:
        reads, width = self.reads(scope.before), scope.width
        sources, tables = len(dict(reads)["x"]), self.functions * len(self.sizes)
        return NgramsPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(
                table("table", tables * self.rows, width, STD),
                *((gains(MERGE, sources, width),) if sources > 1 else ()),
            ),
            cost=Cost(flops=float(tables * width), activations=width),
            inputs=("tokens",),
            has_state=True,
            sizes=self.sizes,
            rows=self.rows,
            functions=self.functions,
        )
