"""A block whose linear maps have a form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.formed.spec import FormedPlan
from evo.blocks.structured.module import form_of
from evo.dsl.plan import BlockPlan
from evo.kernels.dispatch import KernelCall
from evo.kernels.grouped import Groups


class Formed(Block):
    """main(x), whose lent maps are products of the weights here."""

    main: Block

    def __init__(self, plan: FormedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.form, self.maps = form_of(plan.form, plan.factor_act), plan.maps

    @classmethod
    def weight_names(cls, plan: BlockPlan) -> frozenset[str]:
        """The factors of each map are named by the plan."""
        return frozenset(weight.name for weight in plan.weights)

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._lending(flow).run(self.main, x_BTD)

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of the block."""
        return self.main.problems(x_BTD, self._lending(flow))

    def _lending(self, flow: Flow) -> Flow:
        """The same pass, in which what stands in for a map meets its input as the map does."""
        bearer = self.main
        while isinstance(bearer, Formed):
            bearer = bearer.main
        lent = {getattr(bearer, name): name for name in self.maps}

        def project(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
            name = lent.get(weight)
            if name is None:
                return flow.project(x, weight, bias, groups)
            y = self.form(x, getattr(self, name), getattr(self, f"{name}_inner", None), flow)
            return y if bias is None else y + bias.to(y.dtype)

        return replace(flow, project=project)
