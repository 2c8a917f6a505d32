"""The language and the plan of a stage over patches."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.route.spec import shared
from evo.blocks.stages.patches.over import OverPatchesSpec
from evo.dsl.genes import WIDENING, Gene
from evo.dsl.layers import StagePlan
from evo.dsl.paths import MERGE
from evo.dsl.plan import Cost, Init, Weight, gains, linear, matmul_flops, vector
from evo.dsl.spec import RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class PatchesPlan(StagePlan):
    """A stage, its one child, over patches of `size` tokens."""

    builder: ClassVar[str] = "evo.blocks.stages.patches.module:Patches"
    size: int


class PatchesSpec(OverPatchesSpec):
    """A stage over patches: each token gets a map of what it makes of the patches before the token's own (MEGABYTE, Yu
    et al. 2023)."""

    kind: ClassVar[str | None] = "patches"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage. It reads patches, so it has no `from`; its positions count them."""
    size: Annotated[int, Field(ge=2, le=4096), Gene(2, 16, "x2")] = 8
    """Tokens of a patch."""
    width: Annotated[
        int | None, Field(ge=1, le=65536), Gene(64, 1024, "scale", multiple=16, optional=True), WIDENING
    ] = None
    """Width of the stage; size times the stream's if left out."""

    def patch_width(self, width: int) -> int:
        return self.width or self.size * width

    def patch_count(self, context: int) -> int:
        return math.ceil(context / self.size)

    def plan(self, scope: Scope) -> PatchesPlan:
        reads, width, inside = self.reads(scope.before), scope.width, self._scope(scope)
        sources, inner = len(dict(reads)["x"]), self._inner.plan(inside)
        maps = (self._map("down", inside.width, self.size * width), self._map("up", self.size * width, inside.width))
        return PatchesPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(
                *maps,
                vector("first", inside.width, Init("normal", 0.02)),
                *((gains(MERGE, sources, width),) if sources > 1 else ()),
            ),
            cost=Cost(flops=matmul_flops(maps), state=2 * self.size * width, activations=2 * width),
            children=((self._child, shared(inner, inner, 1.0 / self.size)),),
            has_state=True,
            size=self.size,
        )

    def _map(self, name: str, out: int, into: int) -> Weight:
        """A map that each patch meets once."""
        return replace(linear(name, out, into), share=1.0 / self.size)
