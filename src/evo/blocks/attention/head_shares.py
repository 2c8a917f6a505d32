"""The language of heads that each token weighs, and drops but for some."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.experts.plan import ChooserPlan, chooser_plan
from evo.blocks.experts.router import RouterSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import Weight, linear
from evo.dsl.spec import Fault, Scope, Spec


class HeadSharesSpec(Spec):
    """Each token multiplies the outputs of its best heads by their scores and drops the others; some heads, `shared`,
    it always keeps (mixture-of-head attention, Jin et al. 2410.11842)."""

    called: ClassVar[str | None] = "these shares"

    top: Annotated[int, Field(ge=1, le=1024), Gene(1, 8, "+1")] = 2
    """How many of the heads that are not shared a token keeps."""
    shared: Annotated[int, Field(ge=0, le=1024), Gene(0, 4, "+1")] = 0
    """The first so many heads are kept by all tokens, times shares softmax(W_s x) of their own, and shared and chosen
    heads count as softmax(W_a x) of two says."""
    even: Annotated[bool, FIXED] = True
    """Whether shares are multiplied by how many there are, those of shared heads, of chosen heads and of both kinds, so
    that heads which count alike are as without shares (the authors' code). False: they sum to 1 (their equations, with
    `router: {renormalise: false}`)."""
    router: RouterSpec = Field(default_factory=RouterSpec)
    """How heads are chosen and weighed."""

    def faults(self, heads: int, scope: Scope) -> Iterator[Fault]:
        """What cannot be with so many heads that give outputs; paths are relative to this spec."""
        routed = heads - self.shared
        if routed < 2:
            message = f"of {heads} heads, {self.shared} of them shared, there are no two to choose among"
            yield Fault("EVO308", ("shared",), message, "share fewer, or raise heads")
            return
        if self.top > routed:
            message = f"a token cannot keep {self.top} of {routed} heads that are not shared"
            yield Fault("EVO308", ("top",), message, "lower top or shared, or raise heads")
            return
        yield from self.router.faults(self.top, routed, 0, scope)
        if self.router.has_state:
            name = "capacity" if self.router.choose == "each_token" else "choose"
            message = "heads are chosen by each token for itself, whatever others chose"
            yield Fault("EVO307", ("router", name), message, "remove it")

    def weights(self, width: int) -> list[Weight]:
        """Of the shares of shared heads, and of both kinds of heads."""
        of_shared = [linear("shared_shares", self.shared, width)] if self.shared > 1 else []
        return [*of_shared, *([linear("kind_shares", 2, width)] if self.shared else [])]

    def chooser(self, scope: Scope, heads: int) -> ChooserPlan:
        """The plan of the choice among the others of so many heads."""
        return chooser_plan(self.router, scope, self.top, heads - self.shared)
