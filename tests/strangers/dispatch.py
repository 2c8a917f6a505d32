"""A composite that sends each token to some of its mixers (Shazeer et al. 2017), told by its one key."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.dsl.genes import FIXED, Gene
from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops
from evo.dsl.references import mixer_problems, plan_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class DispatchPlan(BlockPlan):
    """Mixers of which `top_k` speak for each token."""

    builder: ClassVar[str] = "strangers.dispatch:Dispatch"
    top_k: int
    temperature: float
    balance: float


class DispatchSpec(Spec):
    """sum over the top_k of softmax(gate(x) / temperature) of mixer_i(x)."""

    kind: ClassVar[str | None] = "dispatch"
    is_keyed: ClassVar[bool] = True

    dispatch: Annotated[tuple[Name | Spec, ...], AsTuple, ListOf(), RoleOf("mixer"), Ref(), Field(min_length=2)]
    """The mixers."""
    top_k: Annotated[int, Field(ge=1), Gene(1, 4, "+1")] = 1
    """How many speak for a token; all, if there are no more."""
    temperature: Annotated[float, Field(gt=0), Gene(0.1, 10.0, "scale")] = 1.0
    """Of the softmax."""
    balance: Annotated[float, Field(ge=0), FIXED] = 0.0
    """The weight of the loss that keeps them equally busy."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        for index, entry in enumerate(self.dispatch):
            yield from mixer_problems(entry, scope, ("dispatch", index))

    def plan(self, scope: Scope) -> DispatchPlan:
        branches = tuple((f"branch{i}", plan_mixer(m, scope)) for i, m in enumerate(self.dispatch))
        weights = (linear("router", len(branches), scope.width),)
        return DispatchPlan(
            kind=self.label,
            weights=weights,
            cost=Cost(flops=matmul_flops(weights) + 2.0 * len(branches) * scope.width, activations=2 * len(branches)),
            children=branches,
            losses=("balance",) if self.balance else (),
            top_k=min(self.top_k, len(branches)),
            temperature=self.temperature,
            balance=self.balance,
        )


def routed(logits_BTE: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Shares of the top_k, 0 elsewhere, and the balance loss E sum_e busy_e share_e (Fedus et al. 2021, eq. 4)."""
    shares_BTE = logits_BTE.softmax(-1)
    chosen_BTK = shares_BTE.topk(top_k, -1).indices
    mask_BTE = (shares_BTE * 0).scatter(-1, chosen_BTK, 1.0)
    busy_E, mean_E = mask_BTE.mean((0, 1)), shares_BTE.mean((0, 1))
    return shares_BTE * mask_BTE, logits_BTE.shape[-1] / top_k * (busy_E * mean_E).sum()


class Dispatch(Block):
    """Every mixer runs on every token; the gates of those not chosen are 0."""

    router: nn.Parameter

    def __init__(self, plan: DispatchPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.branches = tuple(children.values())
        self.top_k, self.temperature, self.balance = plan.top_k, plan.temperature, plan.balance

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        gates_BTE, balance = routed(flow.project(x_BTD, self.router) / self.temperature, self.top_k)
        if self.balance:
            flow.add_loss("balance", balance, self.balance)
        outputs = [flow.run(branch, x_BTD) for branch in self.branches]
        return sum(gates_BTE[..., i, None] * y_BTD for i, y_BTD in enumerate(outputs))  # type: ignore[return-value]
