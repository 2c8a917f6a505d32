"""The language of heads that are sums of outer products."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import Gene
from evo.dsl.plan import Weight, linear
from evo.dsl.spec import Spec

Rank = Annotated[int, Field(ge=1, le=1024), Gene(1, 16, "+1")]


class FactorsSpec(Spec):
    """Queries, keys and values of all heads as sums over r of a_r b_r^T / R, a_r a number a head and b_r a vector, both
    maps of the token; keys and values are kept as their factors (tensor product attention, Zhang et al. 2501.06425)."""

    called: ClassVar[str | None] = "these factors"

    q: Annotated[int | None, Field(ge=1, le=1024), Gene(1, 16, "+1", optional=True)] = 6
    """Factors of queries; they are maps of their own for each head if this is null."""
    k: Rank = 2
    """Factors of keys."""
    v: Rank = 2
    """Factors of values."""

    def weights(self, width: int, heads: int, groups: int) -> list[Weight]:
        """The maps to a: of the shares that query heads, or key heads, have of each factor."""
        ranks = (("q", self.q, heads), ("k", self.k, groups), ("v", self.v, groups))
        return [linear(f"{name}_heads", rank * count, width) for name, rank, count in ranks if rank is not None]

    def kept(self, groups: int, dim: int, values: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """How many vectors, and how wide, a cache keeps of a token's keys and of its values."""
        return (self.k, dim + groups), (self.v, values + groups)
