"""Recurrent networks as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.rnn.spec import RnnPlan
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import document_starts
from evo.kernels.fused import ACTS

NOTHING_YET = -1e30
"""The largest exponent before the first token: below all that tokens bring, and finite, so that it has differences."""


@dataclass(frozen=True)
class Memory(State):
    """What a cell keeps, each (B, C), float32 or wider: its output h, an lstm's cell c, and where its input gate is
    exponential, the sum n of what gates let in and the largest exponent m; c and n are divided by exp(m)."""

    h_BC: Tensor
    c_BC: Tensor | None = None
    n_BC: Tensor | None = None
    m_BC: Tensor | None = None

    def emptied(self, where_B1: Tensor) -> Memory:
        """Nothing kept in some rows."""
        h, c, n = (None if x is None else x.masked_fill(where_B1, 0.0) for x in (self.h_BC, self.c_BC, self.n_BC))
        assert h is not None
        return Memory(h, c, n, None if self.m_BC is None else self.m_BC.masked_fill(where_B1, NOTHING_YET))


@dataclass(frozen=True)
class RnnState(State):
    """The cell's memory, and the convolution's latest inputs."""

    memory: Memory
    past_BWD: Tensor | None


class Rnn(Block):
    """o(norm(h)), h the outputs of a cell that reads its own last one."""

    plain = ("recurrent cell",)

    candidate: nn.Parameter
    candidate_bias: nn.Parameter
    own: nn.Parameter
    o: nn.Parameter
    input_gate: nn.Parameter | None
    input_gate_bias: nn.Parameter | None
    forget_gate: nn.Parameter | None
    forget_gate_bias: nn.Parameter | None
    output_gate: nn.Parameter | None
    output_gate_bias: nn.Parameter | None
    reset_gate: nn.Parameter | None
    reset_gate_bias: nn.Parameter | None
    update_gate: nn.Parameter | None
    update_gate_bias: nn.Parameter | None
    candidate_own: nn.Parameter | None
    candidate_own_bias: nn.Parameter | None
    taps: nn.Parameter | None
    o_bias: nn.Parameter | None

    def __init__(self, plan: RnnPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.act = plan, ACTS[plan.act]
        self.step = {"lstm": self._lstm, "gru": self._gru, "plain": self._plain}[plan.cell]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The convolution of a parallel pass; the rest is plain torch, token by token."""
        return [] if self.taps is None else [plan_convolution(x_BTD, self.taps, activation="silu")]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> RnnState:
        """Nothing kept."""
        empty = torch.zeros(batch, self.plan.inner, device=device, dtype=torch.promote_types(dtype, torch.float32))
        past = None
        if self.taps is not None:
            width, size = self.taps.shape
            past = torch.zeros(batch, size - 1, width, device=device, dtype=dtype)
        if self.plan.is_exponential:
            return RnnState(Memory(empty, empty, empty, torch.full_like(empty, NOTHING_YET)), past)
        return RnnState(Memory(empty, empty if self.plan.cell == "lstm" else None), past)

    def extend(self, x_BTD: Tensor, state: RnnState, flow: Flow) -> tuple[Tensor, RnnState]:
        """The next T positions, one after another."""
        parts_BTGC, past = self._parts(x_BTD, state.past_BWD, flow)
        starts_BT = None if flow.segments_BT is None else document_starts(flow.segments_BT)
        memory, outputs = state.memory, list[Tensor]()
        for t, parts_BGC in enumerate(parts_BTGC.unbind(1)):
            if starts_BT is not None:
                memory = memory.emptied(starts_BT[:, t, None])
            memory = self.step(parts_BGC, memory, flow)
            outputs.append(memory.h_BC)
        h_BTC = torch.stack(outputs, dim=1).to(x_BTD.dtype)
        if "norm" in self._modules:
            h_BTC = self.child("norm")(h_BTC, flow)
        return flow.project(h_BTC, self.o, self.o_bias), RnnState(memory, past)

    def _parts(self, x_BTD: Tensor, past_BWD: Tensor | None, flow: Flow) -> tuple[Tensor, Tensor | None]:
        """W x + b of every gate, (B, T, G, C), in float32 or wider."""
        tapped_BTD, past = x_BTD, None
        if self.taps is not None:
            tapped_BTD, past = short_convolution(
                x_BTD,
                self.taps,
                activation="silu",
                state_BWD=past_BWD,
                segments_BT=flow.segments_BT,
                backend=self.backend,
            )
        parts = [
            flow.project(
                tapped_BTD if gate in self.plan.tapped else x_BTD, getattr(self, gate), getattr(self, f"{gate}_bias")
            )
            for gate in self.plan.gates
        ]
        return torch.stack(parts, dim=2).to(compute_dtype(x_BTD)), past

    def _of_own(self, h_BC: Tensor, weight: Tensor, flow: Flow) -> Tensor:
        """A block-diagonal map of outputs: (B, G, C), G as many as rows of a block have its columns."""
        h_HBP = h_BC.to(weight.dtype).unflatten(-1, (self.plan.heads, -1)).transpose(0, 1)
        mapped_HBGP = flow.project(h_HBP, weight).unflatten(-1, (-1, h_HBP.shape[-1]))
        return mapped_HBGP.permute(1, 2, 0, 3).flatten(-2).to(h_BC.dtype)

    def _plain(self, parts_BGC: Tensor, memory: Memory, flow: Flow) -> Memory:
        return Memory(self.act((parts_BGC + self._of_own(memory.h_BC, self.own, flow))[:, 0]))

    def _gru(self, parts_BGC: Tensor, memory: Memory, flow: Flow) -> Memory:
        h_BC, candidate_BC = memory.h_BC, parts_BGC[:, 2]
        own_BGC = self._of_own(h_BC, self.own, flow)
        reset_BC, update_BC = (parts_BGC[:, :2] + own_BGC[:, :2]).sigmoid().unbind(1)
        if self.candidate_own is None:
            assert self.candidate_own_bias is not None
            own_BC = reset_BC * (own_BGC[:, 2] + self.candidate_own_bias)
        else:
            own_BC = self._of_own(reset_BC * h_BC, self.candidate_own, flow)[:, 0]
        new_BC = self.act(candidate_BC + own_BC)
        return Memory(new_BC + update_BC * (h_BC - new_BC))

    def _lstm(self, parts_BGC: Tensor, memory: Memory, flow: Flow) -> Memory:
        *opened, forget_BC, output_BC, candidate_BC = (parts_BGC + self._of_own(memory.h_BC, self.own, flow)).unbind(1)
        assert memory.c_BC is not None
        output_BC, candidate_BC = output_BC.sigmoid(), self.act(candidate_BC)
        if memory.n_BC is None:
            keep_BC = forget_BC.sigmoid()
            take_BC = opened[0].sigmoid() if opened else (-forget_BC).sigmoid()
            c_BC = keep_BC * memory.c_BC + take_BC * candidate_BC
            return Memory(output_BC * self.act(c_BC), c_BC)
        assert memory.m_BC is not None
        risen_BC = memory.m_BC + (F.logsigmoid(forget_BC) if self.plan.forget == "sigmoid" else forget_BC)
        m_BC = torch.maximum(risen_BC, opened[0]).detach()  # outputs do not depend on it
        keep_BC, take_BC = (risen_BC - m_BC).exp(), (opened[0] - m_BC).exp()
        c_BC, n_BC = keep_BC * memory.c_BC + take_BC * candidate_BC, keep_BC * memory.n_BC + take_BC
        return Memory(output_BC * c_BC / n_BC, c_BC, n_BC, m_BC)
