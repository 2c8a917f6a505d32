"""The real-gated linear recurrent unit as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.rg_lru.spec import RGLRUPlan
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import document_starts
from evo.kernels.scan import plan as plan_scan
from evo.kernels.scan import scan

SHARPNESS = 8.0
"""c of Griffin's eq. 4: how fast the decay falls with its gate."""
STEEPEST = 1000.0
"""The largest slope of sqrt(1 - a²), which would be infinite at a = 1 (RecurrentGemma)."""


@dataclass(frozen=True)
class RGLRUState(State):
    """The state of each channel, (B, C) float32 or wider, the convolution's latest inputs, and how many tokens were
    seen."""

    memory_BC: Tensor
    past_BWC: Tensor | None
    seen: int


class RGLRU(Block):
    """o(gelu(gate(x)) * h), h the gated linear recurrence of conv(x)."""

    x: nn.Parameter
    gate: nn.Parameter
    input_gate: nn.Parameter
    input_gate_bias: nn.Parameter
    decay_gate: nn.Parameter
    decay_gate_bias: nn.Parameter
    decay_rate: nn.Parameter
    o: nn.Parameter
    taps: nn.Parameter | None
    taps_bias: nn.Parameter | None
    x_bias: nn.Parameter | None
    gate_bias: nn.Parameter | None
    o_bias: nn.Parameter | None

    def __init__(self, plan: RGLRUPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The convolution and the scan of a parallel pass."""
        u_BTC = flow.project(x_BTD, self.x, self.x_bias)
        scanned = plan_scan(u_BTC, u_BTC)
        if self.taps is None:
            return [scanned]
        return [plan_convolution(u_BTC, self.taps, bias_D=self.taps_bias), scanned]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> RGLRUState:
        """Zeros, as before the first token."""
        plan, kept = self.plan, torch.promote_types(dtype, torch.float32)
        memory_BC = torch.zeros(batch, plan.inner, device=device, dtype=kept)
        past = torch.zeros(batch, plan.conv - 1, plan.inner, device=device, dtype=dtype) if plan.conv else None
        return RGLRUState(memory_BC, past, 0)

    def extend(self, x_BTD: Tensor, state: RGLRUState, flow: Flow) -> tuple[Tensor, RGLRUState]:
        """The next T positions."""
        return self._mix(x_BTD, state, flow)

    def _mix(self, x_BTD: Tensor, state: RGLRUState, flow: Flow) -> tuple[Tensor, RGLRUState]:
        u_BTC, past = flow.project(x_BTD, self.x, self.x_bias), None
        if self.taps is not None:
            u_BTC, past = short_convolution(
                u_BTC,
                self.taps,
                bias_D=self.taps_bias,
                state_BWD=state.past_BWC,
                segments_BT=flow.segments_BT,
                backend=self.backend,
            )
        decay_BTC, input_BTC = self._terms(u_BTC, self._starts(u_BTC, state.seen, flow), flow)
        states_BTC, memory_BC = scan(
            decay_BTC, input_BTC, state.memory_BC, segments_BT=flow.segments_BT, backend=self.backend
        )
        gate_BTC = F.gelu(flow.project(x_BTD, self.gate, self.gate_bias), approximate="tanh")
        y_BTD = flow.project(states_BTC.to(u_BTC.dtype) * gate_BTC, self.o, self.o_bias)
        return y_BTD, RGLRUState(memory_BC, past, state.seen + x_BTD.shape[1])

    def _terms(self, u_BTC: Tensor, starts_BT: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """a_t, and sqrt(1 - a_t²) i_t u_t, or i_t u_t at the first token of a document."""
        input_gate_BTC = self._gated(u_BTC, self.input_gate, self.input_gate_bias, flow)
        decay_gate_BTC = self._gated(u_BTC, self.decay_gate, self.decay_gate_bias, flow)
        log_decay_BTC = -SHARPNESS * decay_gate_BTC * F.softplus(self.decay_rate.to(decay_gate_BTC.dtype))
        room_BTC = -torch.expm1(2 * log_decay_BTC)
        factor_BTC = torch.where(starts_BT[..., None], 1.0, _BoundedRoot.apply(room_BTC))
        return log_decay_BTC.exp(), factor_BTC * input_gate_BTC * u_BTC.to(room_BTC.dtype)

    def _gated(self, u_BTC: Tensor, weight: Tensor, bias: Tensor, flow: Flow) -> Tensor:
        """sigmoid of the block-diagonal map, (B, T, C), in float32 or wider."""
        parts_HBTP = u_BTC.unflatten(-1, (self.plan.heads, -1)).movedim(-2, 0)
        return flow.project(parts_HBTP, weight, bias).movedim(0, -2).flatten(-2).to(compute_dtype(u_BTC)).sigmoid()

    @staticmethod
    def _starts(u_BTC: Tensor, seen: int, flow: Flow) -> Tensor:
        """Where documents begin, (B, T) bool; the very first token too."""
        first_T = torch.arange(seen, seen + u_BTC.shape[1], device=u_BTC.device) == 0
        if flow.segments_BT is None:
            return first_T.expand(u_BTC.shape[0], -1)
        return document_starts(flow.segments_BT) | first_T


class _BoundedRoot(torch.autograd.Function):
    """sqrt(x) with a slope of at most STEEPEST."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sqrt()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        (root,), (gradient,) = ctx.saved_tensors, gradients
        return gradient / (2 * root).clamp_min(1 / STEEPEST)
