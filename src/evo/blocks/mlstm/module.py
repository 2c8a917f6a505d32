"""xLSTM's matrix memory as a mixer; equations in README.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.mlstm.spec import MLSTMPlan
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import document_starts
from evo.kernels.fused import soft_capped
from evo.kernels.recurrence import plan as plan_recurrence
from evo.kernels.recurrence import recur

READ_EPS = 1e-6
"""Added to what outputs are divided by."""
BORDER = -1e3
"""By how much exponents fall where a document begins: below all that its own tokens bring."""


@dataclass(frozen=True)
class MLSTMState(State):
    """The memory of every head and, as its last column, the sum of its keys, both divided by exp(largest):
    (B, H, K, V + 1); the largest exponent so far, (B, H). Float32 or wider."""

    memory_BHKV: Tensor
    largest_BH: Tensor


class Memory(Block, ABC):
    """A memory a head that exponential gates write, and its norm; what it reads, and what is made of that, a subclass
    says."""

    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    gate: nn.Parameter
    input_gate: nn.Parameter
    forget_gate: nn.Parameter
    input_gate_bias: nn.Parameter
    forget_gate_bias: nn.Parameter
    norm_gain: nn.Parameter
    norm_bias: nn.Parameter | None
    o: nn.Parameter

    def __init__(self, plan: MLSTMPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.key_dim, self.value_dim = plan.heads, plan.key_dim, plan.value_dim
        self.cap, self.eps = plan.cap, plan.eps

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> MLSTMState:
        """Zeros, as before the first token."""
        kept = torch.promote_types(dtype, torch.float32)
        memory = torch.zeros(batch, self.heads, self.key_dim, self.value_dim + 1, device=device, dtype=kept)
        return MLSTMState(memory, torch.zeros(batch, self.heads, device=device, dtype=kept))

    @abstractmethod
    def extend(self, x_BTD: Tensor, state: MLSTMState, flow: Flow) -> tuple[Tensor, MLSTMState]:
        """The next T positions."""

    def _problem(self, q: Tensor, k: Tensor, v: Tensor) -> KernelCall:
        """The recurrence of a parallel pass."""
        return plan_recurrence(q, k, F.pad(v, (0, 1)), log_decay=q[..., 0])

    def _read(
        self, q: Tensor, k: Tensor, v: Tensor, x_BTX: Tensor, state: MLSTMState, flow: Flow
    ) -> tuple[Tensor, MLSTMState]:
        """What queries read, normed by head, (B, T, H V), and the memory. x_BTX: what gates are maps of."""
        log_decay_BTH, write_BTH, largest_BTH = self._gates(x_BTX, state.largest_BH, flow)
        o_BTHV, memory_BHKV = recur(
            q,
            k,
            F.pad(v, (0, 1), value=1.0) * write_BTH[..., None].to(v.dtype),
            log_decay=log_decay_BTH,
            initial_state_BHKV=state.memory_BHKV,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        o_BTHV = o_BTHV.to(largest_BTH.dtype)
        least_BTH1 = (-largest_BTH).exp()[..., None]
        read_BTHV = o_BTHV[..., :-1] / (torch.maximum(o_BTHV[..., -1:].abs(), least_BTH1) + READ_EPS)
        normed_BTD = F.layer_norm(read_BTHV, (self.value_dim,), eps=self.eps).flatten(-2) * self.norm_gain
        if self.norm_bias is not None:
            normed_BTD = normed_BTD + self.norm_bias
        return normed_BTD, MLSTMState(memory_BHKV, largest_BTH[:, -1])

    def _gates(self, x_BTD: Tensor, before_BH: Tensor, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
        """The log of what is kept and the factor of what is written, both relative to exp(m_t), and m_t, (B, T, H).

        m_t = max(log f_t + m_{t-1}, i_t): the largest exponent so far. Outputs do not depend on it, but for `READ_EPS`,
        and so it passes no gradient on, which a GPU would add up in any order.
        """
        pairs = ((self.input_gate, self.input_gate_bias), (self.forget_gate, self.forget_gate_bias))
        compute = compute_dtype(x_BTD)
        input_BTH, forget_BTH = (
            soft_capped(flow.project(x_BTD, weight, bias).to(compute), self.cap) for weight, bias in pairs
        )
        log_forget_BTH = F.logsigmoid(forget_BTH)
        starts_BT1 = None if flow.segments_BT is None else document_starts(flow.segments_BT)[..., None]
        fallen_BTH = log_forget_BTH.cumsum(1)
        rivals_BTH = input_BTH
        if starts_BT1 is not None:  # m is 0 before each document
            fallen_BTH = fallen_BTH + BORDER * starts_BT1.to(compute).cumsum(1)
            rivals_BTH = torch.where(starts_BT1, torch.maximum(input_BTH, log_forget_BTH), input_BTH)
        with torch.no_grad():
            rises_BTH = torch.cat((before_BH[:, None].to(compute), rivals_BTH - fallen_BTH), dim=1)
            largest_BTH = rises_BTH.cummax(1).values[:, 1:] + fallen_BTH
        previous_BTH = torch.cat((before_BH[:, None].to(compute), largest_BTH[:, :-1]), dim=1)
        log_decay_BTH = log_forget_BTH + previous_BTH - largest_BTH
        if starts_BT1 is not None:  # where nothing is kept anyway
            log_decay_BTH = log_decay_BTH.masked_fill(starts_BT1, 0.0)
        return log_decay_BTH, (input_BTH - largest_BTH).exp(), largest_BTH


class MLSTM(Memory):
    """o(sigmoid(gate(x)) * norm(C q / max(|n q|, 1)))."""

    q_bias: nn.Parameter | None
    k_bias: nn.Parameter | None
    v_bias: nn.Parameter | None
    gate_bias: nn.Parameter | None
    o_bias: nn.Parameter | None

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The recurrence of a parallel pass."""
        return [self._problem(*self._heads(x_BTD, flow))]

    def extend(self, x_BTD: Tensor, state: MLSTMState, flow: Flow) -> tuple[Tensor, MLSTMState]:
        """The next T positions."""
        normed_BTD, state = self._read(*self._heads(x_BTD, flow), x_BTD, state, flow)
        gated_BTD = normed_BTD.to(x_BTD.dtype) * flow.project(x_BTD, self.gate, self.gate_bias).sigmoid()
        return flow.project(gated_BTD, self.o, self.o_bias), state

    def _heads(self, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
        pairs = ((self.q, self.q_bias), (self.k, self.k_bias), (self.v, self.v_bias))
        q, k, v = (flow.project(x_BTD, weight, bias).unflatten(-1, (self.heads, -1)) for weight, bias in pairs)
        return q, k, v
