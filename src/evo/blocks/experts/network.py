"""The hidden layers of a router."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block, Norm
from evo.blocks.experts.narrow import NarrowPlan
from evo.blocks.flow import Flow
from evo.dsl.plan import BlockPlan
from evo.kernels.fused import ACTS


class Network(Block):
    """act(W_n ... act(W_1 norm(r))), r = W x (+ gain * the r of an earlier router)."""

    earlier: nn.Parameter | None

    def __init__(self, plan: NarrowPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    @classmethod
    def weight_names(cls, plan: BlockPlan) -> frozenset[str]:
        """The plan names the map to r, and those of each hidden layer."""
        return frozenset(weight.name for weight in plan.weights)

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, W), what logits are a map of."""
        r_BTW = self._map("in", x_BTD, flow)
        if self.earlier is not None:
            r_BTW = r_BTW + flow.signals[self.plan.inputs[0]] * self.earlier.to(r_BTW.dtype)
        flow.signals.update(dict.fromkeys(self.plan.outputs, r_BTW))
        norm = self._modules.get("norm")
        h_BTW = norm(r_BTW, flow) if isinstance(norm, Norm) else r_BTW
        for layer in range(self.plan.depth):
            h_BTW = ACTS[self.plan.act](self._map(f"hidden{layer}", h_BTW, flow))
        return h_BTW

    def _map(self, name: str, x: Tensor, flow: Flow) -> Tensor:
        return flow.project(x, getattr(self, name), getattr(self, f"{name}_bias", None))
