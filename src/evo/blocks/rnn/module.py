"""Recurrent networks as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.rnn.cells import EMPTY, Cell, Memory, emptied, reset
from evo.blocks.rnn.spec import RnnPlan
from evo.blocks.rnn.walk import walk
from evo.kernels.autocast import product_dtype
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import document_starts
from evo.kernels.fused.project import project


@dataclass(frozen=True)
class RnnState(State):
    """The cell's memory, each part (B, C), and the convolution's latest inputs."""

    memory: Memory
    past_BWD: Tensor | None


class Rnn(Block):
    """o(norm(h)), h the outputs of a cell that reads its own last one."""

    in_torch = ("recurrent cell",)

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
        self.plan, self.cell = plan, Cell(plan.cell, plan.forget, plan.act)

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
        return RnnState(tuple(torch.full_like(empty, value) for value in EMPTY[: self.plan.kept]), past)

    def extend(self, x_BTD: Tensor, state: RnnState, flow: Flow) -> tuple[Tensor, RnnState]:
        """The next T positions, one after another."""
        parts_BTGC, past = self._parts(x_BTD, state.past_BWD, flow)
        starts_BT = None if flow.segments_BT is None else document_starts(flow.segments_BT)
        run = self._walked if self._can_walk(parts_BTGC, flow) else self._mapped
        h_BTC, memory = run(parts_BTGC, state.memory, starts_BT, flow)
        h_BTC = h_BTC.to(x_BTD.dtype)
        if "norm" in self._modules:
            h_BTC = self.child("norm")(h_BTC, flow)
        return flow.project(h_BTC, self.o, self.o_bias), RnnState(memory, past)

    def _can_walk(self, parts_BTGC: Tensor, flow: Flow) -> bool:
        """Whether nothing but their maps meets its own outputs, on a CPU: on a GPU captured steps replay the loop."""
        is_own = product_dtype(parts_BTGC) == self.own.dtype == parts_BTGC.dtype
        return parts_BTGC.device.type == "cpu" and flow.project is project and is_own

    def _mapped(
        self, parts_BTGC: Tensor, memory: Memory, starts_BT: Tensor | None, flow: Flow
    ) -> tuple[Tensor, Memory]:
        """The outputs of every token, (B, T, C), and the last memory: its own outputs meet their maps in the flow."""
        outputs: list[Tensor] = []
        for t, parts_BGC in enumerate(parts_BTGC.unbind(1)):
            if starts_BT is not None:
                memory = emptied(memory, starts_BT[:, t, None])
            own_BGC, own_BC = self._of_own(memory[0], self.own, flow), self.candidate_own_bias
            if self.candidate_own is not None:
                own_BC = self._of_own(reset(parts_BGC, own_BGC, memory[0]), self.candidate_own, flow)[:, 0]
            memory = self.cell.step(parts_BGC, own_BGC, own_BC, memory)
            outputs.append(memory[0])
        return torch.stack(outputs, dim=1), memory

    def _walked(
        self, parts_BTGC: Tensor, memory: Memory, starts_BT: Tensor | None, flow: Flow
    ) -> tuple[Tensor, Memory]:
        """The same where nothing but their maps meets its own outputs."""
        heads, cell, bias = self.plan.heads, self.cell, self.candidate_own_bias
        starts_HTB = None if starts_BT is None else starts_BT.T.expand(heads, -1, -1)
        memories_MHTBP = walk(
            parts_BTGC.unflatten(-1, (heads, -1)).permute(3, 1, 0, 2, 4).contiguous(),
            self.own,
            None if bias is None else bias.unflatten(0, (heads, -1)),
            self.candidate_own,
            torch.stack(memory).unflatten(-1, (heads, -1)).transpose(1, 2),
            starts_HTB,
            cell.name,
            cell.forget,
            cell.act,
        )
        memories_MBTC = memories_MHTBP.permute(0, 3, 2, 1, 4).flatten(-2)
        return memories_MBTC[0], memories_MBTC[:, :, -1].unbind(0)

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
