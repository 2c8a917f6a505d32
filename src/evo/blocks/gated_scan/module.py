"""Gated scans as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.gated_scan.spec import GatedScanPlan
from evo.kernels.dispatch import KernelCall
from evo.kernels.scan import plan as plan_scan
from evo.kernels.scan import scan


def positive(x: Tensor) -> Tensor:
    """x + 1/2 from 0 on and sigmoid(x) below: continuous, and above 0 (Feng et al. 2410.01201, B.2)."""
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "positive": positive,
}


@dataclass(frozen=True)
class GatedScanState(State):
    """h of each channel, (B, C), float32 or wider."""

    memory_BC: Tensor


class GatedScan(Block):
    """o(norm(h) * gate(x)), h the scan of candidates by gates."""

    forget_gate: nn.Parameter
    forget_gate_bias: nn.Parameter
    candidate: nn.Parameter
    o: nn.Parameter
    input_gate: nn.Parameter | None
    gate: nn.Parameter | None
    candidate_bias: nn.Parameter | None
    input_gate_bias: nn.Parameter | None
    gate_bias: nn.Parameter | None
    o_bias: nn.Parameter | None

    def __init__(self, plan: GatedScanPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None, flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The scan of a parallel pass."""
        wide_BTC = x_BTD.new_empty(*x_BTD.shape[:2], self.plan.inner, dtype=compute_dtype(x_BTD))
        return [plan_scan(wide_BTC, wide_BTC)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> GatedScanState:
        """Zeros, as before the first token."""
        kept = torch.promote_types(dtype, torch.float32)
        return GatedScanState(torch.zeros(batch, self.plan.inner, device=device, dtype=kept))

    def extend(self, x_BTD: Tensor, state: GatedScanState, flow: Flow) -> tuple[Tensor, GatedScanState]:
        """The next T positions."""
        return self._mix(x_BTD, state.memory_BC, flow)

    def _mix(self, x_BTD: Tensor, before_BC: Tensor | None, flow: Flow) -> tuple[Tensor, GatedScanState]:
        keep_BTC, take_BTC = self._gates(x_BTD, flow)
        candidate_BTC = flow.project(x_BTD, self.candidate, self.candidate_bias).to(keep_BTC.dtype)
        h_BTC, memory_BC = scan(
            keep_BTC,
            take_BTC * ACTS[self.plan.act](candidate_BTC),
            before_BC,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        h_BTC = h_BTC.to(x_BTD.dtype)
        if "norm" in self._modules:
            h_BTC = self.child("norm")(h_BTC, flow)
        if self.gate is not None:
            h_BTC = h_BTC * ACTS[self.plan.gate](flow.project(x_BTD, self.gate, self.gate_bias))
        return flow.project(h_BTC, self.o, self.o_bias), GatedScanState(memory_BC)

    def _gates(self, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """f and i, (B, T, C), in float32 or wider."""
        compute, least = compute_dtype(x_BTD), self.plan.least
        forget_BTC = flow.project(x_BTD, self.forget_gate, self.forget_gate_bias).to(compute)
        keep_BTC = least + (1 - least) * forget_BTC.sigmoid()
        if self.input_gate is None:
            return keep_BTC, (1 - least) * (-forget_BTC).sigmoid()
        input_BTC = flow.project(x_BTD, self.input_gate, self.input_gate_bias).to(compute)
        if self.plan.input == "own":
            return keep_BTC, input_BTC.sigmoid()
        log_keep_BTC = keep_BTC.log() if least else F.logsigmoid(forget_BTC)
        lead_BTC = log_keep_BTC - F.logsigmoid(input_BTC)  # of both, which may round to 0, only the ratio counts
        return lead_BTC.sigmoid(), (-lead_BTC).sigmoid()
