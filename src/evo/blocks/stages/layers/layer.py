"""One layer, whatever its wiring: x <- after(skip * x + sum_j gain_j * out_j(f_j(in_j(x)))) for each sublayer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.dsl.layers import SHIFT, Branch, LayerPlan, Sublayer
from evo.dsl.plan import BlockPlan
from evo.kernels.dispatch import KernelCall


class Layer(Block):
    """Sublayers on the residual stream; blocks and norms are received built."""

    def __init__(self, plan: LayerPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.sublayers = plan.sublayers
        self.block_names = plan.block_names()

    @classmethod
    def weight_names(cls, plan: BlockPlan) -> frozenset[str]:
        """The learned gains are named by the plan."""
        return frozenset(weight.name for weight in plan.weights)

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.run(Residual(x_BTD), flow).value()

    def run(self, residual: Residual, flow: Flow) -> Residual:
        """`forward` on a residual stream whose last sum may still be open."""
        return self._run(self.sublayers, residual, flow)

    def _run(
        self, sublayers: Sequence[Sublayer], residual: Residual, flow: Flow, reads_BTD: Tensor | None = None
    ) -> Residual:
        """Some sublayers, from the first on. reads_BTD: what the first one's blocks read in place of the stream."""
        waiting: dict[int, Tensor] = {}
        for index, sublayer in enumerate(sublayers):
            residual = self._sublayer(sublayer, residual, flow, waiting, index, None if index else reads_BTD)
        return residual

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of its blocks, in order."""
        return [problem for name in self.block_names for problem in self.child(name).problems(x_BTD, flow)]

    def _sublayer(
        self,
        sublayer: Sublayer,
        residual: Residual,
        flow: Flow,
        waiting: dict[int, Tensor],
        index: int,
        reads_BTD: Tensor | None,
    ) -> Residual:
        """waiting: by the index of a sublayer, the sum of what it adds; late branches are put there."""
        if not sublayer.branches:  # what is late comes here all the same
            return Residual(residual.value(), waiting.pop(index, None))
        inputs, x_BTD = self._inputs(sublayer, residual if reads_BTD is None else Residual(reads_BTD), flow)
        x_BTD = x_BTD if reads_BTD is None else residual.value()
        for branch in sublayer.branches:
            y_BTD, at = self._branch(branch, inputs[branch.norm_in], flow), index + branch.late
            waiting[at] = y_BTD if at not in waiting else waiting[at] + y_BTD
        kept_BTD = self._scaled(x_BTD, sublayer.skip)
        after = Residual(x_BTD - kept_BTD if sublayer.skips_rest else kept_BTD, waiting.pop(index, None))
        if sublayer.norm_after is None:
            return after
        return Residual(after.normed(self._norm(sublayer.norm_after), flow)[1])

    def _summed(self, sublayer: Sublayer, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What the branches of a sublayer add up to."""
        inputs, _ = self._inputs(sublayer, Residual(x_BTD), flow)
        first, *others = sublayer.branches
        total_BTD = self._branch(first, inputs[first.norm_in], flow)
        for branch in others:
            total_BTD = total_BTD + self._branch(branch, inputs[branch.norm_in], flow)
        return total_BTD

    def _inputs(self, sublayer: Sublayer, residual: Residual, flow: Flow) -> tuple[dict[str | None, Tensor], Tensor]:
        """What the branches read, by the norm they read it through, and the stream as one tensor."""
        first, *others = dict.fromkeys(branch.norm_in for branch in sublayer.branches)
        x_BTD, h_BTD = (residual.value(),) * 2 if first is None else residual.normed(self._norm(first), flow)
        inputs = {first: h_BTD}
        for name in others:
            inputs[name] = x_BTD if name is None else self._norm(name)(x_BTD, flow)
        return inputs, x_BTD

    def _branch(self, branch: Branch, x_BTD: Tensor, flow: Flow) -> Tensor:
        y_BTD = flow.dropped(flow.run(self.child(branch.block), x_BTD), "residual")
        if branch.norm_out is not None:
            y_BTD = self._norm(branch.norm_out)(y_BTD, flow)
        # behind the norm, which would undo that what is left is larger
        return self._scaled(flow.dropped_rows(y_BTD, "block"), branch.gain)

    def _norm(self, name: str) -> Norm:
        norm = self.child(name)
        assert isinstance(norm, Norm)
        return norm

    def _scaled(self, x_BTD: Tensor, gain: float | str) -> Tensor:
        if isinstance(gain, str):
            shift: nn.Parameter | None = getattr(self, f"{gain}_{SHIFT}", None)
            return (x_BTD if shift is None else x_BTD + shift) * getattr(self, gain)
        return x_BTD if gain == 1.0 else x_BTD * gain
