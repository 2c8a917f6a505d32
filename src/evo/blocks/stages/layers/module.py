"""A run of layers as a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.layers.forgotten import forgotten
from evo.blocks.stages.layers.layer import Layer
from evo.blocks.stages.layers.plan import LayersPlan
from evo.blocks.stages.stage import Stage
from evo.dsl.spec import KV
from evo.kernels.dispatch import KernelCall


class Layers(Stage):
    """Layers in a row on the sum of what it reads; layers of one name are one module."""

    def __init__(self, plan: LayersPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.order, self.norm_end = plan.order, plan.norm_end

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D), the last sum left open."""
        if KV in inputs:
            flow.signals[KV] = torch.stack(list(inputs[KV])).sum(0)
        residual = Residual(self._begun(self.merged(inputs["x"]), flow))
        for layer in self.layers():
            residual = forgotten(layer, residual, flow) if flow.forgets_layers else layer.run(residual, flow)
        residual = self._ended(residual, flow)
        if self.norm_end is None:
            return residual
        norm = self.child(self.norm_end)
        assert isinstance(norm, Norm)
        return Residual(residual.normed(norm, flow)[1])

    def _begun(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What enters the first layer."""
        del flow
        return x_BTD

    def _ended(self, residual: Residual, flow: Flow) -> Residual:
        """The residual stream, from what the last layer gives."""
        del flow
        return residual

    def layers(self) -> list[Layer]:
        """Its layers as they run; a shared one stands there several times."""
        found = [self.child(name) for name in self.order]
        return [layer for layer in found if isinstance(layer, Layer)]

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """The kernel problems of each layer, as they run."""
        for layer in self.layers():
            yield layer.path, layer.problems(x_BTD, flow)
