"""A prediction ahead: one plain map for the token after the next."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from evo.blocks.ahead.module import Ahead, Ends, Trunk
from evo.blocks.ahead.spec import AheadPlan, AheadSpec
from evo.blocks.flow import Flow
from evo.dsl.organism import StageSpec
from evo.dsl.plan import Cost, linear, matmul_flops
from evo.dsl.spec import Fault, Scope
from evo.kernels.dispatch import KernelCall


@dataclass(frozen=True, kw_only=True)
class GuessPlan(AheadPlan):
    """One map of the stream."""

    builder: ClassVar[str] = "strangers.aheads:Guess"


class GuessSpec(AheadSpec):
    """One map of what the last stage gives."""

    kind: ClassVar[str | None] = "guess"

    def problems_behind(self, stage: StageSpec, scope: Scope) -> Iterator[Fault]:
        return iter(())

    def behind(self, stage: StageSpec, scope: Scope) -> GuessPlan:
        weights = (linear("guess", scope.width, scope.width),)
        cost = Cost(flops=matmul_flops(weights))
        return GuessPlan(kind=self.label, weights=weights, cost=cost, losses=("ahead_2",), tokens=1, loss_weight=0.5)


class Guess(Ahead):
    """See the spec."""

    guess: nn.Parameter

    def vectors(self, trunk: Trunk, flow: Flow) -> Iterator[Tensor]:
        """The map of all but the last position."""
        yield flow.project(trunk.normed(trunk.last)[:, :-1], self.guess)

    def drafts(self, trunk: Trunk, after_BT: Tensor, places: int, ends: Ends, flow: Flow) -> Tensor:
        """That of the last position."""
        return ends.likeliest(flow.project(trunk.normed(trunk.last)[:, -1], self.guess))[:, None]

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """None."""
        return iter(())
