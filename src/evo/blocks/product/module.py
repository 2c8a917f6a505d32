"""One mixer's output, gated by another's."""

from __future__ import annotations

from torch import Tensor

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.kernels.dispatch import KernelCall


class Product(Block):
    """rms(main(x)) * sigmoid(rms(gate(x))), with gains in both norms (Behrouz et al. 2025, section 4.2)."""

    main: Block
    gate: Block
    main_norm: Norm
    gate_norm: Norm

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        y_BTD = self.main_norm(flow.run(self.main, x_BTD), flow)
        return y_BTD * self.gate_norm(flow.run(self.gate, x_BTD), flow).sigmoid()

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of both mixers."""
        return [*self.main.problems(x_BTD, flow), *self.gate.problems(x_BTD, flow)]
