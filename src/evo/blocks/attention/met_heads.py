"""The heads that the tokens of one pass have of the experts that they meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from evo.blocks.experts.chooser import Chooser
from evo.blocks.experts.met import Met
from evo.blocks.flow import Flow
from evo.kernels.dispatch import KernelCall
from evo.kernels.grouped import plan as plan_grouped


class Meeting(Protocol):
    """What knows whose maps tokens meet."""

    def queries(self, x_BTD: Tensor, q_ECD: Tensor, bias_EC: Tensor | None, flow: Flow) -> Tensor:
        """Raw queries of all heads side by side, (B, T, P C), by maps of C channels."""
        ...

    def outputs(self, o_BTC: Tensor, o_EDC: Tensor, flow: Flow) -> Tensor:
        """What the experts make of their heads, each times its share: (B, T, P C) -> (B, T, D)."""
        ...


@dataclass(frozen=True)
class MetHeads:
    """Who meets whose maps. Heads are in the order of the key heads that they read: of each, those of a token's first
    expert, then those of its second.

    shares_BTP: how much each of a token's P experts counts. kv_heads: how many key heads there are.
    """

    met: Met
    shares_BTP: Tensor
    kv_heads: int

    @classmethod
    def of(cls, x_BTD: Tensor, chooser: Chooser, kv_heads: int, flow: Flow) -> MetHeads:
        """The choice that tokens make."""
        routes = chooser.chosen(x_BTD, flow)
        met = Met(routes.chosen_BTP.flatten(), chooser.plan.count, chooser.backend)
        return cls(met, routes.shares_BTP, kv_heads)

    def queries(self, x_BTD: Tensor, q_ECD: Tensor, bias_EC: Tensor | None, flow: Flow) -> Tensor:
        """Raw queries of all heads side by side, (B, T, P C), by maps of C channels."""
        rows_RD = self.met.together(x_BTD.flatten(0, 1))
        y_RC = self.met.apart(flow.grouped(self.met.groups).project(rows_RD, q_ECD, bias_EC))
        y_BTPGC = y_RC.unflatten(0, self.shares_BTP.shape).unflatten(-1, (self.kv_heads, -1))
        return y_BTPGC.transpose(2, 3).flatten(2)

    def outputs(self, o_BTC: Tensor, o_EDC: Tensor, flow: Flow) -> Tensor:
        """What the experts make of their heads, each times its share: (B, T, P C) -> (B, T, D)."""
        o_BTGPC = o_BTC.unflatten(-1, (self.kv_heads, self.shares_BTP.shape[-1], -1))
        rows_RC = o_BTGPC.transpose(2, 3).flatten(3).flatten(0, 2)
        y_RD = flow.grouped(self.met.groups).project(self.met.together(rows_RC), o_EDC)
        return self.met.summed(y_RD, self.shares_BTP.flatten(0, 1)).unflatten(0, self.shares_BTP.shape[:2])


@dataclass(frozen=True)
class NotedHeads:
    """Notes the grouped products that a pass of `top` experts a token would ask for; computes nothing."""

    top: int
    calls: list[KernelCall] = field(default_factory=list[KernelCall])

    def queries(self, x_BTD: Tensor, q_ECD: Tensor, bias_EC: Tensor | None, flow: Flow) -> Tensor:
        """Of the shape that `MetHeads` gives."""
        del bias_EC, flow
        return self._noted(x_BTD, q_ECD).flatten(2)

    def outputs(self, o_BTC: Tensor, o_EDC: Tensor, flow: Flow) -> Tensor:
        """Of the shape that `MetHeads` gives."""
        del flow
        return self._noted(o_BTC, o_EDC)[:, :, 0]

    def _noted(self, x_BTX: Tensor, stack: Tensor) -> Tensor:
        batch, tokens, _ = x_BTX.shape
        self.calls.append(plan_grouped(x_BTX.new_empty(batch * tokens * self.top, stack.shape[-1]), stack))
        return x_BTX.new_empty(batch, tokens, self.top, stack.shape[-2])
