"""The language and the plan of link slots."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops
from evo.dsl.spec import Fault, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class LinkSlotsPlan(BlockPlan):
    """`heads` memories of the last `slots` queries of width `dim`, of which a token reads the best `top`."""

    builder: ClassVar[str] = "evo.blocks.link_slots.module:LinkSlots"
    chooses: ClassVar[bool] = True
    heads: int
    dim: int
    slots: int
    top: int


class LinkSlotsSpec(Spec):
    """o(softmax(q . m) m) over a token's query q and the `top` of the earlier ones that are nearest to it: retrieval
    from a memory that each token is written to."""

    kind: ClassVar[str | None] = "link_slots"

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Heads, each with slots of its own."""
    dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 128, "x2", optional=True)] = None
    """Width of a head's slots; width / heads if left out."""
    slots: Annotated[int, Field(ge=1, le=1_000_000), Gene(8, 512, "x2")] = 256
    """Slots of a head: so many of the latest tokens are kept."""
    top: Annotated[int, Field(ge=1, le=65536), Gene(1, 32, "x2")] = 4
    """Slots that a token reads beside its own query."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.dim is None and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set dim")
        kept = min(self.slots, scope.context - 1)
        if self.top >= kept:
            message = f"no more than {kept} slots are ever filled, so a token reads all of them"
            yield Fault("EVO331", ("top",), message, "lower top", "warning")

    def plan(self, scope: Scope) -> LinkSlotsPlan:
        dim = self.dim or scope.width // self.heads
        inner = self.heads * dim
        weights = (
            linear("q", inner, scope.width),
            linear("o", scope.width, inner, scope.residual_gain, writes_residual=True),
        )
        kept, tokens = min(self.slots, scope.context - 1), scope.context
        pairs = (kept * (kept + 1) / 2 + (tokens - 1 - kept) * kept) / tokens
        return LinkSlotsPlan(
            kind=self.label,
            weights=weights,
            cost=Cost(
                flops=matmul_flops(weights) + 2.0 * inner * (pairs + min(self.top, pairs) + 2),
                cache_per_token=inner,
                cache_limit=self.slots,
                activations=scope.width + 2 * inner + self.heads * 2 * self.top,
            ),
            has_state=True,
            heads=self.heads,
            dim=dim,
            slots=self.slots,
            top=self.top,
        )
