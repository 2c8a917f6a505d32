"""The recurrence family as a mixer: projections, features and gates around `evo.kernels.recurrence`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Constant, Position, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.norm.rms import rms_norm
from evo.blocks.recurrence.spec import RecurrencePlan
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.recurrence import plan as plan_recurrence
from evo.kernels.recurrence import recur

NORM_EPS = 1e-6
SUM_EPS = 1e-6
TAPS_ACT = "silu"
CHANNEL_TEMPERATURE = 16.0
"""What GLA divides the log of its per-channel decay by (Yang et al. 2312.06635)."""


@dataclass(frozen=True)
class RecurrenceState(State):
    """The matrix state of every head, and the inputs of the short convolutions at the latest W - 1 positions.

    memory_BHKV: float32, or float64 for float64 activations; one column more with normalizer sum. past: for q, k and v,
    (B, W - 1, H K) or (B, W - 1, H V); none without convolutions.
    """

    memory_BHKV: Tensor
    past: tuple[Tensor, ...]


def l2_normalize(x_BTHK: Tensor) -> Tensor:
    """x / |x| along its last dimension."""
    return x_BTHK * torch.rsqrt(x_BTHK.square().sum(-1, keepdim=True) + NORM_EPS)


def elu_plus_one(x_BTHK: Tensor) -> Tensor:
    """elu(x) + 1 (Katharopoulos et al. 2020)."""
    return F.elu(x_BTHK) + 1.0


def identity(x_BTHK: Tensor) -> Tensor:
    """x."""
    return x_BTHK


FEATURES: dict[str, Callable[[Tensor], Tensor]] = {"identity": identity, "l2": l2_normalize, "elu": elu_plus_one}
GATES: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "sigmoid": torch.sigmoid}


class Recurrence(Block):
    """S_t = A_t S_{t-1} + update(k_t, v_t), y_t = o(norm(S_t^T q_t) * gate(x_t))."""

    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    o: nn.Parameter
    q_taps: nn.Parameter | None
    k_taps: nn.Parameter | None
    v_taps: nn.Parameter | None
    gate: nn.Parameter | None
    beta: nn.Parameter | None
    out_norm: nn.Parameter | None
    bonus: nn.Parameter | None
    decay: nn.Parameter | None
    decay_down: nn.Parameter | None
    decay_up: nn.Parameter | None
    decay_bias: nn.Parameter | None
    decay_rate: nn.Parameter | None
    position: Position

    def __init__(self, plan: RecurrencePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.key_dim, self.value_dim = plan.heads, plan.key_dim, plan.value_dim
        self.taps = plan.conv
        self.divides = plan.normalizer == "sum"
        self.feature = FEATURES[plan.feature]
        self.gate_act = GATES.get(plan.gate, identity)
        self.log_decay = DECAYS[plan.decay]
        self.head_decay = Constant(head_log_decay(self.heads))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None, flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The short convolutions of q, k and v, and the recurrence of a parallel pass."""
        projected = self._projected(x_BTD, flow)
        convolutions: list[KernelCall] = [
            plan_convolution(x, weight, activation=TAPS_ACT)
            for x, weight in zip(projected, self._taps(), strict=True)
            if weight is not None
        ]
        return [*convolutions, plan_recurrence(*self._heads(projected, flow), **self._parts(x_BTD, flow))]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> RecurrenceState:
        """Zeros, as before the first token."""
        memory = (batch, self.heads, self.key_dim, self.value_dim + self.divides)
        keys, values = self.heads * self.key_dim, self.heads * self.value_dim
        sizes = (keys, keys, values) if self.taps else ()
        return RecurrenceState(
            torch.zeros(memory, device=device, dtype=torch.promote_types(dtype, torch.float32)),
            tuple(torch.zeros(batch, self.taps - 1, size, device=device, dtype=dtype) for size in sizes),
        )

    def extend(self, x_BTD: Tensor, state: RecurrenceState, flow: Flow) -> tuple[Tensor, RecurrenceState]:
        """The next T positions."""
        return self._mix(x_BTD, state, flow)

    def _mix(self, x_BTD: Tensor, state: RecurrenceState | None, flow: Flow) -> tuple[Tensor, RecurrenceState]:
        streams, past = self._streams(x_BTD, None if state is None else state.past, flow)
        o_BTHV, memory_BHKV = recur(
            *self._heads(streams, flow),
            **self._parts(x_BTD, flow),
            initial_state_BHKV=None if state is None else state.memory_BHKV,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        return self._out(o_BTHV, x_BTD, flow), RecurrenceState(memory_BHKV, past)

    def _heads(self, streams: list[Tensor], flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v by head, turned and through the feature map; v with a column of ones if outputs are divided."""
        q_BTHK, k_BTHK, v_BTHV = (x.unflatten(-1, (self.heads, -1)) for x in streams)
        q_BTHK, k_BTHK = self.position.rotate(q_BTHK, k_BTHK, flow.position)
        if self.divides:
            v_BTHV = F.pad(v_BTHV, (0, 1), value=1.0)
        return self.feature(q_BTHK), self.feature(k_BTHK), v_BTHV

    def _parts(self, x_BTD: Tensor, flow: Flow) -> dict[str, Any]:
        """What the recurrence has besides q, k and v."""
        return {
            "log_decay": self.log_decay(self, x_BTD, flow),
            "beta_BTH": None if self.beta is None else torch.sigmoid(flow.project(x_BTD, self.beta)),
            "bonus_HK": self.bonus,
        }

    def _streams(
        self, x_BTD: Tensor, past: tuple[Tensor, ...] | None, flow: Flow
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """q, k and v before they are cut into heads, and the new past of their convolutions."""
        projected = self._projected(x_BTD, flow)
        if not self.taps:
            return projected, ()
        steps = [
            short_convolution(
                stream,
                taps,
                activation=TAPS_ACT,
                state_BWD=before,
                segments_BT=flow.segments_BT,
                backend=self.backend,
            )
            for taps, stream, before in zip(self._taps(), projected, past or (None,) * 3, strict=True)
            if taps is not None
        ]
        return [y for y, _ in steps], tuple(after for _, after in steps)

    def _projected(self, x_BTD: Tensor, flow: Flow) -> list[Tensor]:
        return [flow.project(x_BTD, weight) for weight in (self.q, self.k, self.v)]

    def _taps(self) -> tuple[Tensor | None, ...]:
        return self.q_taps, self.k_taps, self.v_taps

    def _out(self, o_BTHV: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        if self.divides:
            o_BTHV = o_BTHV[..., :-1] / (o_BTHV[..., -1:] + SUM_EPS)
        if self.out_norm is not None:
            o_BTHV = rms_norm(o_BTHV, self.out_norm, NORM_EPS)
        inner_BTD = o_BTHV.flatten(-2)
        if self.gate is not None:
            inner_BTD = inner_BTD * self.gate_act(flow.project(x_BTD, self.gate))
        return flow.project(inner_BTD, self.o)


def head_log_decay(heads: int) -> Tensor:
    """log(1 - 2^(-5 - h)) for head h, (H,) float64 (RetNet, Sun et al. 2307.08621)."""
    return torch.tensor([math.log1p(-(2.0 ** (-5 - head))) for head in range(heads)], dtype=torch.float64)


def no_decay(block: Recurrence, x_BTD: Tensor, flow: Flow) -> None:
    """Nothing is forgotten."""


def constant_decay(block: Recurrence, x_BTD: Tensor, flow: Flow) -> Tensor:
    """The same at every token, (H,)."""
    return block.head_decay.like(x_BTD, compute_dtype(x_BTD))


def token_decay(block: Recurrence, x_BTD: Tensor, flow: Flow) -> Tensor:
    """-exp(rate) softplus(x W + bias), (B, T, H) (Dao & Gu 2405.21060; Yang et al. 2412.06464)."""
    assert block.decay is not None
    assert block.decay_rate is not None
    assert block.decay_bias is not None
    step_BTH = flow.project(x_BTD, block.decay).to(compute_dtype(x_BTD))
    return -block.decay_rate.exp() * F.softplus(step_BTH + block.decay_bias)


def channel_decay(block: Recurrence, x_BTD: Tensor, flow: Flow) -> Tensor:
    """logsigmoid(up(down(x)) + bias) / 16, (B, T, H, K) (GLA, Yang et al. 2312.06635)."""
    assert block.decay_down is not None
    assert block.decay_up is not None
    assert block.decay_bias is not None
    inner_BTR = flow.project(x_BTD, block.decay_down)
    logit_BTX = flow.project(inner_BTR, block.decay_up).to(compute_dtype(x_BTD))
    decay_BTX = F.logsigmoid(logit_BTX + block.decay_bias) / CHANNEL_TEMPERATURE
    return decay_BTX.unflatten(-1, (block.heads, -1))


DECAYS: dict[str, Callable[[Recurrence, Tensor, Flow], Tensor | None]] = {
    "none": no_decay,
    "head": constant_decay,
    "token": token_decay,
    "channel": channel_decay,
}
