"""A feed-forward with a loss of its own, which no source line knows: the mean square of what it adds to the stream."""

from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor

from evo.blocks.feedforward.module import Dense
from evo.blocks.feedforward.spec import DensePlan, DenseSpec
from evo.blocks.flow import Flow
from evo.dsl.spec import Scope

SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class LoadedPlan(DensePlan):
    """A dense feed-forward that adds the loss `size`."""

    builder: ClassVar[str] = "loaded:Loaded"


class LoadedSpec(DenseSpec):
    """A dense feed-forward whose outputs cost something."""

    kind: ClassVar[str | None] = "loaded"

    def plan(self, scope: Scope) -> LoadedPlan:
        dense = super().plan(scope)
        return LoadedPlan(**{**{f.name: getattr(dense, f.name) for f in fields(dense)}, "losses": ("size",)})


class Loaded(Dense):
    """The module of both."""

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        y_BTD = super().forward(x_BTD, flow)
        flow.add_loss("size", y_BTD.float().square().mean(), SHARE)
        return y_BTD
