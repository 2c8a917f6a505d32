"""The selective scan as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.selective_scan.spec import SelectiveScanPlan
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.scan import plan as plan_scan
from evo.kernels.scan import scan

TAPS_ACT = "silu"


@dataclass(frozen=True)
class SelectiveScanState(State):
    """What each channel remembers, (B, inner * state) float32 or wider, and the convolution's latest inputs."""

    memory_BX: Tensor
    past_BWC: Tensor | None


class SelectiveScan(Block):
    """o(silu(gate(x)) * (C h + D u)) with u = silu(conv(x))."""

    x: nn.Parameter
    gate: nn.Parameter
    step_down: nn.Parameter
    step_up: nn.Parameter
    step_bias: nn.Parameter
    b: nn.Parameter
    c: nn.Parameter
    decay_rate: nn.Parameter
    skip: nn.Parameter
    o: nn.Parameter
    taps: nn.Parameter | None
    taps_bias: nn.Parameter | None
    x_bias: nn.Parameter | None
    gate_bias: nn.Parameter | None
    o_bias: nn.Parameter | None

    def __init__(self, plan: SelectiveScanPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None, flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The convolution and the scan of a parallel pass."""
        u_BTC = flow.project(x_BTD, self.x, self.x_bias)
        calls: list[KernelCall] = []
        if self.taps is not None:
            calls.append(plan_convolution(u_BTC, self.taps, activation=TAPS_ACT, bias_D=self.taps_bias))
        wide_BTX = u_BTC.new_empty(*u_BTC.shape[:2], self.plan.inner * self.plan.state)
        return [*calls, plan_scan(wide_BTX, wide_BTX)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> SelectiveScanState:
        """Zeros, as before the first token."""
        plan, kept = self.plan, torch.promote_types(dtype, torch.float32)
        memory_BX = torch.zeros(batch, plan.inner * plan.state, device=device, dtype=kept)
        if not plan.conv:
            return SelectiveScanState(memory_BX, None)
        past = torch.zeros(batch, plan.conv - 1, plan.inner, device=device, dtype=dtype)
        return SelectiveScanState(memory_BX, past)

    def extend(self, x_BTD: Tensor, state: SelectiveScanState, flow: Flow) -> tuple[Tensor, SelectiveScanState]:
        """The next T positions."""
        return self._mix(x_BTD, state, flow)

    def _mix(self, x_BTD: Tensor, state: SelectiveScanState | None, flow: Flow) -> tuple[Tensor, SelectiveScanState]:
        u_BTC, past = flow.project(x_BTD, self.x, self.x_bias), None
        if self.taps is not None:
            u_BTC, past = short_convolution(
                u_BTC,
                self.taps,
                bias_D=self.taps_bias,
                activation=TAPS_ACT,
                state_BWD=None if state is None else state.past_BWC,
                segments_BT=flow.segments_BT,
                backend=self.backend,
            )
        y_BTC, memory_BX = self._scanned(u_BTC, None if state is None else state.memory_BX, flow)
        y_BTC = y_BTC.to(u_BTC.dtype)
        flow.signals.update(dict.fromkeys(self.plan.outputs, y_BTC))
        y_BTC = y_BTC * F.silu(flow.project(x_BTD, self.gate, self.gate_bias))
        return flow.project(y_BTC, self.o, self.o_bias), SelectiveScanState(memory_BX, past)

    def _scanned(self, u_BTC: Tensor, memory_BX: Tensor | None, flow: Flow) -> tuple[Tensor, Tensor]:
        """C h + D u, in float32 or wider."""
        heads_u = self._by_head(u_BTC)
        narrow, b, c = (
            self._normed(name, flow.project(heads_u, weight), flow)
            for name, weight in (("step_norm", self.step_down), ("b_norm", self.b), ("c_norm", self.c))
        )
        compute = compute_dtype(u_BTC)
        step_BTC = F.softplus(self._side_by_side(flow.project(narrow, self.step_up)).to(compute) + self.step_bias)
        decay_BTCN = (step_BTC[..., None] * -self.decay_rate.exp()).exp()
        u_BTC, b_BTCN, c_BTCN = u_BTC.to(compute), self._by_channel(b.to(compute)), self._by_channel(c.to(compute))
        input_BTCN = (step_BTC * u_BTC)[..., None] * b_BTCN
        states_BTX, memory_BX = scan(
            decay_BTCN.flatten(-2),
            input_BTCN.flatten(-2),
            memory_BX,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        read_BTC = (states_BTX.unflatten(-1, (self.plan.inner, -1)) * c_BTCN).sum(-1)
        return read_BTC + self.skip * u_BTC, memory_BX

    def _by_head(self, u_BTC: Tensor) -> Tensor:
        """Channels as maps of heads meet them, (H, B, T, C / H), or as they are for one head."""
        return u_BTC if self.plan.heads == 1 else u_BTC.unflatten(-1, (self.plan.heads, -1)).movedim(-2, 0)

    def _side_by_side(self, x: Tensor) -> Tensor:
        """What heads give, side by side: (B, T, C)."""
        return x if self.plan.heads == 1 else x.movedim(0, -2).flatten(-2)

    def _by_channel(self, x: Tensor) -> Tensor:
        """What each channel has of its head: (B, T, C, N), or (B, T, 1, N) where all have the same."""
        if self.plan.heads == 1:
            return x[..., None, :]
        return x.movedim(0, -2).repeat_interleave(self.plan.inner // self.plan.heads, dim=-2)

    def _normed(self, name: str, x: Tensor, flow: Flow) -> Tensor:
        return self.child(name)(x, flow) if name in self._modules else x
