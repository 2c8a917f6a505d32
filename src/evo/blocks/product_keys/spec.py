"""The language and the plan of a memory that product keys find."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.acts import Word
from evo.dsl.genes import Gene
from evo.dsl.plan import BlockPlan, Cost, Init, Weight, linear, matmul_flops, table
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ProductKeysPlan(BlockPlan):
    """keys x keys slots, of which each of `heads` queries of `dim` channels finds the `top` best."""

    builder: ClassVar[str] = "evo.blocks.product_keys.module:ProductKeys"
    keys: int
    heads: int
    top: int
    dim: int
    of: str
    act: str
    gate: bool


class ProductKeysSpec(Spec):
    """sum over heads and a head's best slots i of share_i * value_i, in a memory of keys x keys slots (product-key
    memory, Lample et al. 1907.05242).

    A slot's score is that of its first key with one half of the query plus that of its second key with the other half,
    so the best are found among 2 * keys scores; shares are the softmax of a head's best scores.
    """

    kind: ClassVar[str | None] = "product_keys"

    keys: Annotated[int, Field(ge=2, le=4096), Gene(8, 128, "x2")] = 32
    """Keys of either half; a memory has the square of it as slots."""
    heads: Annotated[int, Field(ge=1, le=256), Gene(1, 8, "x2")] = 4
    """Queries of a token, each with keys of its own; all read the same slots."""
    top: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2")] = 8
    """Slots that a query reads."""
    dim: Annotated[int, Field(ge=2, le=4096), Gene(8, 128, "x2")] = 32
    """Channels of a query, an even number."""
    of: Literal["values", "neurons"] = "values"
    """What a slot holds: a vector; or a neuron act(u x) v, an expert of one hidden unit (PEER, He 2407.04153)."""
    act: Word = "gelu"
    """The activation of neurons."""
    q_norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of each query."""
    gate: bool = False
    """Whether what is read is multiplied by silu of a map of x, and projected (Memory+, Berges et al. 2412.09764)."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.of == "neurons" else frozenset({"act"})

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.dim % 2:
            yield Fault("EVO308", ("dim",), f"{self.dim} channels have no two halves", "write an even number")
        if self.top > self.keys**2:
            message = f"a memory of {self.keys} x {self.keys} slots has no {self.top}"
            yield Fault("EVO308", ("top",), message, "lower top, or raise keys")
        if isinstance(self.q_norm, NormSpec):
            yield from self.q_norm.head_problems(self.heads, self.dim, ("q_norm",))

    def plan(self, scope: Scope) -> ProductKeysPlan:
        width, half = scope.width, self.dim // 2
        tables = ["values"] if self.of == "values" else ["inner", "values"]
        maps = [linear("q", self.heads * self.dim, width)]
        if self.gate:
            maps.append(linear("gate", width, width))
            maps.append(linear("o", width, width, scope.residual_gain, writes_residual=True))
        keys = Weight(
            "keys", (2 * self.heads, self.keys, half), Init("normal", half**-0.5), ("stack", "rows", "channel")
        )
        rows = [table(name, self.keys**2, width, width**-0.5) for name in tables]
        shortlist = min(self.top, self.keys)
        flops = matmul_flops(tuple(maps)) + 2.0 * self.heads * self.keys * self.dim + self.heads * shortlist**2
        flops += 2.0 * self.heads * self.top * width * len(tables)
        children: tuple[tuple[str, BlockPlan], ...] = ()
        if isinstance(self.q_norm, NormSpec):
            children = (("q_norm", self.q_norm.over_heads(self.heads, self.dim)),)
        read = self.heads * (self.dim + 2 * self.keys + shortlist**2 + self.top * (width * len(tables) + 2))
        return ProductKeysPlan(
            kind=self.label,
            weights=(*maps, keys, *rows),
            cost=Cost(flops=flops, activations=width * (4 if self.gate else 1) + read),
            children=children,
            keys=self.keys,
            heads=self.heads,
            top=self.top,
            dim=self.dim,
            of=self.of,
            act=self.act if self.of == "neurons" else "",
            gate=self.gate,
        )
