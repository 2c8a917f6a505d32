"""One block's output, gated by another's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.product.spec import ProductPlan
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import ACTS


class Product(Block):
    """norm(main(x)) * act(norm(gate(x))), with gains in both norms in Titans (Behrouz et al. 2025, section 4.2)."""

    main: Block
    gate: Block

    def __init__(self, plan: ProductPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.act = ACTS[plan.act]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        y_BTD = self._normed("main_norm", flow.run(self.main, x_BTD), flow)
        return y_BTD * self.act(self._normed("gate_norm", flow.run(self.gate, x_BTD), flow))

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of both blocks."""
        return [*self.main.problems(x_BTD, flow), *self.gate.problems(x_BTD, flow)]

    def _normed(self, name: str, y_BTD: Tensor, flow: Flow) -> Tensor:
        norm = self._modules.get(name)
        return norm(y_BTD, flow) if isinstance(norm, Norm) else y_BTD
