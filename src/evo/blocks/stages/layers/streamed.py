"""A run of layers on several residual streams."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.layers.layer import Layer
from evo.blocks.stages.layers.module import Layers
from evo.blocks.stages.layers.plan import STREAMS_BEGIN, STREAMS_END, StreamedLayerPlan, StreamedLayersPlan
from evo.blocks.streams.module import Beginning, Connection, End


class StreamedLayer(Layer):
    """Sublayers that read and write streams, (B, T, N, D), through a connection each."""

    def __init__(self, plan: StreamedLayerPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.connections = plan.connections

    def run(self, residual: Residual, flow: Flow) -> Residual:
        """The streams after it; no sum is left open."""
        x_BTND = residual.value()
        for sublayer, name in zip(self.sublayers, self.connections, strict=True):
            if name is None:
                x_BTND = x_BTND + self._summed(sublayer, x_BTND, flow)
                continue
            connection = self.child(name)
            assert isinstance(connection, Connection)
            x_BTD, kept_BTND, gains_N = connection.read(x_BTND, flow)
            x_BTND = connection.written(kept_BTND, gains_N, self._summed(sublayer, x_BTD, flow), flow)
        return Residual(x_BTND)


class StreamedLayers(Layers):
    """The layers, between the beginning of streams, copies of what the stage reads if there is none, and their end."""

    def __init__(self, plan: StreamedLayersPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.count = plan.count

    def _begun(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        begin = self._modules.get(STREAMS_BEGIN)
        if isinstance(begin, Beginning):
            return begin.begun(x_BTD, flow)
        return x_BTD[..., None, :].expand(*x_BTD.shape[:-1], self.count, -1)

    def _ended(self, residual: Residual, flow: Flow) -> Residual:
        end = self.child(STREAMS_END)
        assert isinstance(end, End)
        return Residual(end.ended(residual.value(), flow))
