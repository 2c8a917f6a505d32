"""A layer on several residual streams, of which it computes the first."""

from __future__ import annotations

from collections.abc import Mapping

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.layers.layer import Layer
from evo.blocks.stages.layers.plan import WrappedLayerPlan
from evo.blocks.streams.module import LayerConnection


class WrappedLayer(Layer):
    """Sublayers on the first of the streams, (B, T, N, D), and perhaps some that add to the others behind them."""

    def __init__(self, plan: WrappedLayerPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.connection, self.inside = plan.connection, len(plan.sublayers) - plan.aside

    def run(self, residual: Residual, flow: Flow) -> Residual:
        """The streams after it; no sum is left open."""
        connection = self.child(self.connection)
        assert isinstance(connection, LayerConnection)
        predicted_BTND = connection.predicted(residual.value(), flow)
        apart = connection.first_reads
        reads_BTD = predicted_BTND[..., apart, :] if apart else None
        first = self._run(self.sublayers[: self.inside], Residual(predicted_BTND[..., 0, :]), flow, reads_BTD)
        x_BTND = connection.corrected(predicted_BTND, first.value(), flow)
        for sublayer in self.sublayers[self.inside :]:
            y_BTD = self._summed(sublayer, connection.read_aside(x_BTND), flow)
            x_BTND = connection.written_aside(x_BTND, y_BTD)
        return Residual(x_BTND)
