"""The recurrence family as a mixer: projections, features and gates around `evo.kernels.recurrence`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Constant, Mixer, Position, State, compute_dtype
from evo.blocks.norm.rms import rms_norm
from evo.dsl.plan import BlockPlan
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import Problem
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
    (B, W - 1, H K) or (B, W - 1, H V); none without convolutions. seen: the next token's position.
    """

    memory_BHKV: Tensor
    past: tuple[Tensor, ...]
    seen: int


def unit(x_BTHK: Tensor) -> Tensor:
    """x / |x| along its last dimension."""
    return x_BTHK * torch.rsqrt(x_BTHK.square().sum(-1, keepdim=True) + NORM_EPS)


def positive(x_BTHK: Tensor) -> Tensor:
    """elu(x) + 1 (Katharopoulos et al. 2020)."""
    return F.elu(x_BTHK) + 1.0


def same(x_BTHK: Tensor) -> Tensor:
    """x."""
    return x_BTHK


FEATURES: dict[str, Callable[[Tensor], Tensor]] = {"identity": same, "l2": unit, "elu": positive}
GATES: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "sigmoid": torch.sigmoid}


class Recurrence(Mixer):
    """S_t = A_t S_{t-1} + update(k_t, v_t), y_t = o(norm(S_t^T q_t) * gate(x_t))."""

    optional: ClassVar[tuple[str, ...]] = (
        *("q_taps", "k_taps", "v_taps", "gate", "beta", "out_norm", "bonus"),
        *("decay", "decay_down", "decay_up", "decay_bias", "decay_rate"),
    )
    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    o: nn.Parameter
    gate: nn.Parameter | None
    beta: nn.Parameter | None
    out_norm: nn.Parameter | None
    bonus: nn.Parameter | None
    position: Position

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        settings = plan.settings
        self.heads: int = settings["heads"]
        self.key_dim: int = settings["key_dim"]
        self.value_dim: int = settings["value_dim"]
        self.taps: int = settings["conv"]
        self.divides: bool = settings["normalizer"] == "sum"
        self.feature = FEATURES[settings["feature"]]
        self.gate_act = GATES.get(settings["gate"], same)
        self.log_decay = DECAYS[settings["decay"]]
        self.head_decay = Constant(head_log_decay(self.heads))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None)[0]

    def problems(self, x_BTD: Tensor) -> list[Problem]:
        """The short convolutions of q, k and v, and the recurrence of a parallel pass."""
        projected = self._projected(x_BTD)
        taps = [self._taps(name) for name in "qkv"] if self.taps else []
        convolutions: list[Problem] = [
            plan_convolution(x, weight, activation=TAPS_ACT) for x, weight in zip(projected, taps, strict=False)
        ]
        return [*convolutions, plan_recurrence(*self._heads(projected, 0), **self._parts(x_BTD))]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> RecurrenceState:
        """Zeros, as before the first token."""
        memory = (batch, self.heads, self.key_dim, self.value_dim + self.divides)
        keys, values = self.heads * self.key_dim, self.heads * self.value_dim
        sizes = (keys, keys, values) if self.taps else ()
        return RecurrenceState(
            torch.zeros(memory, device=device, dtype=torch.promote_types(dtype, torch.float32)),
            tuple(torch.zeros(batch, self.taps - 1, size, device=device, dtype=dtype) for size in sizes),
            0,
        )

    def extend(self, x_BTD: Tensor, state: RecurrenceState) -> tuple[Tensor, RecurrenceState]:
        """The next T positions."""
        return self._mix(x_BTD, state)

    def _mix(self, x_BTD: Tensor, state: RecurrenceState | None) -> tuple[Tensor, RecurrenceState]:
        seen = 0 if state is None else state.seen
        streams, past = self._streams(x_BTD, None if state is None else state.past)
        memory = None if state is None else state.memory_BHKV
        parts = self._parts(x_BTD)
        o_BTHV, memory_BHKV = recur(
            *self._heads(streams, seen), **parts, initial_state_BHKV=memory, backend=self.backend
        )
        return self._out(o_BTHV, x_BTD), RecurrenceState(memory_BHKV, past, seen + x_BTD.shape[1])

    def _heads(self, streams: list[Tensor], offset: int) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v by head, turned and through the feature map; v with a column of ones if outputs are divided."""
        q_BTHK, k_BTHK, v_BTHV = (x.unflatten(-1, (self.heads, -1)) for x in streams)
        q_BTHK, k_BTHK = self.position.rotate(q_BTHK, k_BTHK, offset)
        if self.divides:
            v_BTHV = F.pad(v_BTHV, (0, 1), value=1.0)
        return self.feature(q_BTHK), self.feature(k_BTHK), v_BTHV

    def _parts(self, x_BTD: Tensor) -> dict[str, Any]:
        """What the recurrence has besides q, k and v."""
        return {
            "log_decay": self.log_decay(self, x_BTD),
            "beta_BTH": None if self.beta is None else torch.sigmoid(F.linear(x_BTD, self.beta)),
            "bonus_HK": self.bonus,
        }

    def _streams(self, x_BTD: Tensor, past: tuple[Tensor, ...] | None) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """q, k and v before they are cut into heads, and the new past of their convolutions."""
        projected = self._projected(x_BTD)
        if not self.taps:
            return projected, ()
        steps = [
            short_convolution(stream, self._taps(name), activation=TAPS_ACT, state_BWD=before, backend=self.backend)
            for name, stream, before in zip("qkv", projected, past or (None,) * 3, strict=True)
        ]
        return [y for y, _ in steps], tuple(after for _, after in steps)

    def _projected(self, x_BTD: Tensor) -> list[Tensor]:
        return [F.linear(x_BTD, weight) for weight in (self.q, self.k, self.v)]

    def _taps(self, name: str) -> Tensor:
        return self.get_parameter(f"{name}_taps")

    def _out(self, o_BTHV: Tensor, x_BTD: Tensor) -> Tensor:
        if self.divides:
            o_BTHV = o_BTHV[..., :-1] / (o_BTHV[..., -1:] + SUM_EPS)
        if self.out_norm is not None:
            o_BTHV = rms_norm(o_BTHV, self.out_norm, NORM_EPS)
        inner_BTD = o_BTHV.flatten(-2)
        if self.gate is not None:
            inner_BTD = inner_BTD * self.gate_act(F.linear(x_BTD, self.gate))
        return F.linear(inner_BTD, self.o)


def head_log_decay(heads: int) -> Tensor:
    """log(1 - 2^(-5 - h)) for head h, (H,) float64 (RetNet, Sun et al. 2307.08621)."""
    return torch.tensor([math.log1p(-(2.0 ** (-5 - head))) for head in range(heads)], dtype=torch.float64)


def no_decay(block: Recurrence, x_BTD: Tensor) -> None:
    """Nothing is forgotten."""


def constant_decay(block: Recurrence, x_BTD: Tensor) -> Tensor:
    """The same at every token, (H,)."""
    return block.head_decay.like(x_BTD, compute_dtype(x_BTD))


def token_decay(block: Recurrence, x_BTD: Tensor) -> Tensor:
    """-exp(rate) softplus(x W + bias), (B, T, H) (Dao & Gu 2405.21060; Yang et al. 2412.06464)."""
    step_BTH = F.linear(x_BTD, block.get_parameter("decay")).to(compute_dtype(x_BTD))
    return -block.get_parameter("decay_rate").exp() * F.softplus(step_BTH + block.get_parameter("decay_bias"))


def channel_decay(block: Recurrence, x_BTD: Tensor) -> Tensor:
    """logsigmoid(up(down(x)) + bias) / 16, (B, T, H, K) (GLA, Yang et al. 2312.06635)."""
    inner_BTR = F.linear(x_BTD, block.get_parameter("decay_down"))
    logit_BTX = F.linear(inner_BTR, block.get_parameter("decay_up")).to(compute_dtype(x_BTD))
    decay_BTX = F.logsigmoid(logit_BTX + block.get_parameter("decay_bias")) / CHANNEL_TEMPERATURE
    return decay_BTX.unflatten(-1, (block.heads, -1))


DECAYS: dict[str, Callable[[Recurrence, Tensor], Tensor | None]] = {
    "none": no_decay,
    "head": constant_decay,
    "token": token_decay,
    "channel": channel_decay,
}
