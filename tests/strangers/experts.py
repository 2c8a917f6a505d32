"""A mixture of experts: its weights are stacks, a token meets k of E, and it has a loss of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.feedforward.spec import Ratio, hidden_size
from evo.blocks.flow import Flow
from evo.dsl.genes import Gene
from evo.dsl.plan import BlockPlan, Cost, Init, Weight, linear, matmul_flops
from evo.dsl.spec import Scope, Spec
from strangers.dispatch import routed


@dataclass(frozen=True, kw_only=True)
class CrowdPlan(BlockPlan):
    """Experts of `hidden` units, of which `top_k` speak for each token."""

    builder: ClassVar[str] = "strangers.experts:Experts"
    hidden: int
    top_k: int


class CrowdSpec(Spec):
    """sum over the top_k of softmax(router(x)) of down_e(relu(up_e(x)))."""

    kind: ClassVar[str | None] = "crowd"

    experts: Annotated[int, Field(ge=2, le=1024), Gene(2, 16, "x2")] = 4
    """How many there are."""
    top_k: Annotated[int, Field(ge=1), Gene(1, 4, "+1")] = 2
    """How many speak for a token; all, if there are no more."""
    ratio: Ratio = 1.0
    """Hidden width of each over width."""

    def plan(self, scope: Scope) -> CrowdPlan:
        hidden, top_k = hidden_size(scope.width, self.ratio), min(self.top_k, self.experts)
        share = top_k / self.experts

        def stack(name: str, out: int, inner: int, gain: float = 1.0, writes: bool = False) -> Weight:
            init, axes = Init("normal", gain * inner**-0.5), ("stack", "out", "in")
            return Weight(name, (self.experts, out, inner), init, axes, "matrix", share, writes)

        weights = (
            linear("router", self.experts, scope.width),
            stack("up", hidden, scope.width),
            stack("down", scope.width, hidden, scope.residual_gain, True),
        )
        cost = Cost(flops=matmul_flops(weights), activations=top_k * 2 * hidden + self.experts)
        return CrowdPlan(kind=self.label, weights=weights, cost=cost, losses=("balance",), hidden=hidden, top_k=top_k)


class Experts(Block):
    """Every expert runs on every token; the gates of those not chosen are 0."""

    router: nn.Parameter
    up: nn.Parameter
    down: nn.Parameter

    def __init__(self, plan: CrowdPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.top_k = plan.top_k

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        gates_BTE, balance = routed(flow.project(x_BTD, self.router), self.top_k)
        flow.add_loss("balance", balance, 0.01)
        x_EBTD = x_BTD.expand(self.up.shape[0], *x_BTD.shape)
        y_EBTD = flow.project(flow.project(x_EBTD, self.up).relu(), self.down)
        return (gates_BTE.movedim(-1, 0)[..., None] * y_EBTD).sum(0)
