"""The language and the plan of vectors of hashed n-grams behind a gate."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from evo.blocks.engram.hashes import multipliers
from evo.blocks.engram.hashes import sizes as rows_of
from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops, table, taps
from evo.dsl.spec import DEFAULT, TOKENS, AsTuple, Fault, RoleOf, Scope, Spec

STD = 0.02


@dataclass(frozen=True, kw_only=True)
class EngramPlan(BlockPlan):
    """Rows of hashed n-grams, a key of them for each of `streams`, one value.

    rows: how many each hash function has, `heads` functions a size. multipliers: of tokens, the latest first. end: the
    token that stands before the first. made_by, scope: what makes the same for another number of streams.
    """

    builder: ClassVar[str] = "evo.blocks.engram.module:Engram"
    sizes: tuple[int, ...]
    heads: int
    rows: tuple[int, ...]
    multipliers: tuple[int, ...]
    end: int
    streams: int
    made_by: "EngramSpec"
    scope: Scope

    @property
    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings.items() if name not in ("made_by", "scope")}

    def over_streams(self, count: int) -> BlockPlan:
        return self.made_by.over(self.scope, count)


class EngramSpec(Spec):
    """y = u + silu(conv(N u)), u = sigmoid(s(N k N x / sqrt(width))) v, k and v maps of the rows of the n-grams that
    end here, s the root that keeps signs (Engram, Cheng et al. 2601.07372; Qwen4-Exp)."""

    kind: ClassVar[str | None] = "engram"

    sizes: Annotated[
        tuple[Annotated[int, Field(ge=2, le=16)], ...], AsTuple, Field(min_length=1, max_length=15), FIXED
    ] = (2, 3)
    """How many tokens the n-grams have, in rising order."""
    heads: Annotated[int, Field(ge=1, le=64), Gene(1, 8, "x2")] = 4
    """Hash functions of each size."""
    rows: Annotated[int, Field(ge=2, le=100_000_000), Gene(256, 65536, "x2")] = 4096
    """Rows of a function, at least: each has the next prime."""
    dim: Annotated[int, Field(ge=1, le=4096), Gene(2, 64, "x2")] = 8
    """Width of a row; those of all functions stand side by side."""
    conv: Annotated[int, Field(ge=1, le=64), Gene(1, 8, "+1")] = 4
    """Taps of the convolution, which are as far apart as the longest n-gram is long."""
    norm: Annotated[Spec, RoleOf("norm", default="rms"), FIXED] = DEFAULT
    """The norm of keys, of what they meet, and of what the convolution reads."""
    end: Annotated[int, Field(ge=0), FIXED] = 0
    """The token that stands before the first one and in place of all that is before it in a text."""
    place: Annotated[int, Field(ge=0, le=64), FIXED] = 0
    """Which of the organism's it is: each has other hash functions."""
    seed: Annotated[int, Field(ge=0, lt=2**63), FIXED] = 1234
    """Of the hash functions."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.sizes != tuple(sorted(set(self.sizes))):
            yield Fault("EVO355", ("sizes",), "sizes of n-grams do not rise", "write each once, the smallest first")
        elif self.sizes[-1] > scope.context:
            message = f"a context of {scope.context} tokens has no n-gram of {self.sizes[-1]}"
            yield Fault("EVO355", ("sizes",), message, "remove it")
        if self.end >= scope.vocab:
            yield Fault("EVO355", ("end",), f"there are {scope.vocab} tokens, counted from 0", "write one of them")
        if isinstance(self.norm, NormSpec):
            yield from self.norm.head_problems(1, scope.width, ("norm",))

    def plan(self, scope: Scope) -> EngramPlan:
        return self.over(scope, 1)

    def over(self, scope: Scope, streams: int) -> EngramPlan:
        """The plan for so many residual streams, of which each has keys of its own."""
        width, channels = scope.width, streams * scope.width
        functions = len(self.sizes) * self.heads
        rows = rows_of(self.rows, functions, self.place)
        made = functions * self.dim
        maps = (
            linear("key", channels, made),
            linear("v", width, made, scope.residual_gain, writes_residual=True),
        )
        assert isinstance(self.norm, NormSpec)
        norm = self.norm.over_heads(streams, width)
        return EngramPlan(
            kind=self.label,
            weights=(table("table", sum(rows), self.dim, STD), *maps, taps("taps", channels, self.conv)),
            cost=Cost(
                flops=matmul_flops(maps) + 2.0 * channels * (self.conv + 2),
                state=(self.conv - 1) * self.sizes[-1] * channels,
                activations=made + 5 * channels + width,
            ),
            children=tuple((f"{name}_norm", norm) for name in ("key", "x", "conv")),
            inputs=(TOKENS,),
            has_state=True,
            sizes=self.sizes,
            heads=self.heads,
            rows=rows,
            multipliers=multipliers(scope.vocab, self.sizes[-1], self.place, self.seed),
            end=self.end,
            streams=streams,
            made_by=self,
            scope=replace(scope, pseudopods={}, layers={}, earlier={}),
        )
