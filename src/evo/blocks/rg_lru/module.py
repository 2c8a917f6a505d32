"""The real-gated linear recurrent unit as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.blocks.rg_lru.spec import RGLRUPlan
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import document_starts
from evo.kernels.fused import GATED, LRU_TERMS, gated, lru_terms
from evo.kernels.scan import plan as plan_scan
from evo.kernels.scan import scan


@dataclass(frozen=True)
class RGLRUState(State):
    """The state of each channel, (B, C) float32 or wider, the convolution's latest inputs, and how many tokens were
    seen."""

    memory_BC: Tensor
    past_BWC: Tensor | None
    seen: int


class RGLRU(Block):
    """o(gelu(gate(x)) * h), h the gated linear recurrence of conv(x)."""

    fused = (GATED, LRU_TERMS)
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
        gate_BTC, h_BTC = flow.project(x_BTD, self.gate, self.gate_bias), states_BTC.to(u_BTC.dtype)
        y_BTD = flow.project(gated(gate_BTC, h_BTC, "gelu_tanh", backend=self.fused_backend), self.o, self.o_bias)
        return y_BTD, RGLRUState(memory_BC, past, state.seen + x_BTD.shape[1])

    def _terms(self, u_BTC: Tensor, starts_BT: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """a_t, and sqrt(1 - a_t²) i_t u_t, or i_t u_t at the first token of a document."""
        parts_HBTP = u_BTC.unflatten(-1, (self.plan.heads, -1)).movedim(-2, 0)
        return lru_terms(
            u_BTC,
            flow.project(parts_HBTP, self.input_gate),
            flow.project(parts_HBTP, self.decay_gate),
            self.input_gate_bias.flatten(),
            self.decay_gate_bias.flatten(),
            self.decay_rate,
            starts_BT,
            backend=self.fused_backend,
        )

    @staticmethod
    def _starts(u_BTC: Tensor, seen: int, flow: Flow) -> Tensor:
        """Where documents begin, (B, T) bool; the very first token too."""
        first_T = torch.arange(seen, seen + u_BTC.shape[1], device=u_BTC.device) == 0
        if flow.segments_BT is None:
            return first_T.expand(u_BTC.shape[0], -1)
        return document_starts(flow.segments_BT) | first_T
