"""The plan of what chooses for each token, and its weights."""

from dataclasses import dataclass
from typing import ClassVar

from evo.blocks.experts.router import RouterSpec
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class ChooserPlan(BlockPlan):
    """A choice of `top` out of `count` experts and some classes besides.

    identity, skip, constant: further choices of the router that return their input, nothing, and a mean of it and a
    learned vector. limit: the most tokens that an
    expert takes. routed_shared: which of the experts that every token meets are weighed by the router.
    """

    builder: ClassVar[str] = "evo.blocks.experts.chooser:Chooser"
    chooses: ClassVar[bool] = True
    count: int
    top: int
    router: RouterSpec
    identity: int = 0
    skip: int = 0
    constant: int = 0
    limit: int | None = None
    routed_shared: tuple[bool, ...] = ()

    @property
    def classes(self) -> int:
        """How many choices the router has."""
        return self.count + self.identity + self.skip + self.constant


def router_weights(router: RouterSpec, classes: int, scored: int, width: int) -> list[Weight]:
    """The weights of a router. scored: how many logits it has, those of the classes among them."""
    weights: list[Weight] = []
    if router.has_logits:
        weights.append(linear("router", scored, width if router.network is None else router.network.width))
    if router.logits_from is not None and router.has_logits:
        weights.append(Weight("earlier_logits", (scored, scored), ZEROS, ("out", "in"), "matrix"))
    if router.bias:
        weights.append(vector("router_bias", scored, ZEROS))
    if router.choice_bias:
        weights.append(vector("choice_bias", classes, ZEROS))
    return weights


def chooser_plan(router: RouterSpec, scope: Scope, top: int, count: int) -> ChooserPlan:
    """The plan of a choice alone, of `top` out of `count`."""
    weights = tuple(router_weights(router, count, count, scope.width))
    return ChooserPlan(
        kind="router",
        weights=weights,
        cost=Cost(flops=matmul_flops(weights), activations=count),
        children=router.children(scope, top, count),
        inputs=router.inputs(count),
        outputs=router.outputs(count),
        losses=router.losses(),
        count=count,
        top=top,
        router=router,
    )
