"""The language of heads that are experts: each token chooses whose queries and outputs it has."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.experts.plan import ChooserPlan, chooser_plan
from evo.blocks.experts.router import RouterSpec
from evo.dsl.genes import Gene
from evo.dsl.plan import Weight
from evo.dsl.spec import Fault, Scope, Spec


class HeadExpertsSpec(Spec):
    """Maps of queries and of outputs for each expert; all read the same keys and values (mixture of attention heads,
    Zhang et al. 2210.05144; JetMoE, 2404.07413)."""

    called: ClassVar[str | None] = "these experts"

    count: Annotated[int, Field(ge=1, le=4096), Gene(2, 16, "x2")] = 8
    """How many experts there are."""
    top: Annotated[int, Field(ge=1, le=256), Gene(1, 4, "+1")] = 2
    """How many of them a token meets; each has an equal part of the query heads."""
    router: RouterSpec = Field(default_factory=RouterSpec)
    """How they are chosen and weighed."""

    def faults(self, heads: int, kv_heads: int, scope: Scope) -> Iterator[Fault]:
        """What cannot be with so many heads at a token; paths are relative to this spec."""
        yield from self.router.faults(self.top, self.count, 0, scope)
        if self.router.has_state:
            name = "capacity" if self.router.choose == "each_token" else "choose"
            message = "heads are chosen by each token for itself, whatever others chose"
            yield Fault("EVO307", ("router", name), message, "remove it")
        if heads % (self.top * kv_heads):
            message = (
                f"{self.top} experts a token cannot each have an equal part of {heads} heads for {kv_heads} kv_heads"
            )
            yield Fault("EVO301", ("top",), message, f"make heads a multiple of {self.top * kv_heads}")

    def stack(self, weight: Weight) -> Weight:
        """A weight of one expert's heads as that of all."""
        share = weight.share * self.top / self.count
        return replace(weight, shape=(self.count, *weight.shape), axes=("stack", *weight.axes), share=share)

    def chooser(self, scope: Scope) -> ChooserPlan:
        """The plan of the choice."""
        return chooser_plan(self.router, scope, self.top, self.count)
