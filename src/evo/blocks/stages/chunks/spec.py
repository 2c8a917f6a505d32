"""The language and the plan of a stage over chunks whose ends a router finds."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.route.spec import shared
from evo.blocks.stages.around import AroundSpec, unshared
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.layers import StagePlan
from evo.dsl.paths import MERGE
from evo.dsl.plan import ZEROS, Cost, Init, Weight, gains, linear, matmul_flops, vector
from evo.dsl.spec import TOKENS, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ChunksPlan(StagePlan):
    """A stage, its one child, of `width` channels, over the first tokens of chunks of `size` tokens on average."""

    builder: ClassVar[str] = "evo.blocks.stages.chunks.module:Chunks"
    chooses: ClassVar[bool] = True
    gathers: ClassVar[bool] = True
    size: float
    width: int
    ratio_loss: float


class ChunksSpec(AroundSpec):
    """A stage over the first token of each chunk; a chunk begins where neighbours are unlike, and what the stage makes
    of it, smoothed over chunks, is given to all its tokens beside a map of each (H-Net, Hwang et al. 2507.07955)."""

    kind: ClassVar[str | None] = "chunks"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage. It reads chunks as its whole sequence, so it has no `from`; its positions count them."""
    size: Annotated[float, Field(gt=1, le=4096), Gene(1.5, 16, "scale")] = 4.0
    """Tokens of a chunk on average, to which a loss draws them."""
    width: Annotated[
        int | None, Field(ge=1, le=65536), Gene(64, 1024, "scale", multiple=8, optional=True), WIDENING
    ] = None
    """Width of the stage, at least the stream's, which it is if left out; beyond that stands one learned vector."""
    ratio_loss: Annotated[float, Field(ge=0, le=1e6), FIXED] = 0.03
    """The weight of that loss, size / (size - 1) ((size - 1) F G + (1 - F) (1 - G)): F is the share of tokens that
    begin a chunk, G the mean of their probability."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.width is not None and self.width < scope.width:
            message = f"the stream is {scope.width} wide, and all of it enters the stage"
            yield Fault("EVO353", ("width",), message, f"write {scope.width} or more, or leave it out")
            return
        yield from self._alone(scope, "EVO353", "chunks")

    def plan(self, scope: Scope) -> ChunksPlan:
        reads, width = self.reads(scope.before), scope.width
        sources, wide = len(dict(reads)["x"]), self.width or width
        fewer = replace(scope, context=max(1, math.ceil(scope.context / self.size)))
        whole, cheap = (self._inner.plan(self._scope(around)) for around in (scope, fewer))
        maps = [Weight(name, (width, width), Init("diagonal", 0, 1.0), ("out", "in"), "matrix") for name in ("q", "k")]
        maps.append(replace(linear("residual", width, width), init=ZEROS))
        beyond = [vector("beyond", wide - width, Init("normal", 0.02))] if wide > width else []
        return ChunksPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(*maps, *beyond, *((gains(MERGE, sources, width),) if sources > 1 else ())),
            cost=Cost(
                flops=matmul_flops(tuple(maps)) + 14.0 * width + (2.0 * sources * width if sources > 1 else 0.0),
                state=2 * width,
                activations=7 * width,
            ),
            children=((self._child, shared(whole, cheap, 1.0 / self.size)),),
            losses=("ratio",) if self.ratio_loss else (),
            has_state=True,
            size=self.size,
            width=wide,
            ratio_loss=self.ratio_loss,
        )

    def _scope(self, scope: Scope) -> Scope:
        wide = self.width or scope.width
        return super()._scope(replace(scope, width=wide, earlier=scope.earlier if wide == scope.width else {}))

    def _inner_faults(self, scope: Scope, code: str, units: str) -> Iterator[Fault]:
        if not all(spec.is_causal for spec in self._inside(scope)):
            message = "a mixer that sees later chunks cannot stand here: rows are filled up with tokens that begin none"
            yield Fault(code, ("of",), message, "write a causal one")
        for block in self._inner.plan(self._scope(scope)).blocks():
            if block.outputs or set(block.inputs) - {TOKENS}:
                message = f"'{block.kind}' shares what it computes with other blocks, which see no {units}"
                yield Fault(code, ("of",), message, unshared(block))
                return
