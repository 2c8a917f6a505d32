"""The recurrence family as a mixer: projections, features and gates around `evo.kernels.recurrence`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Position
from evo.blocks.constant import Constant
from evo.blocks.flow import Flow, State
from evo.blocks.norm.rms import rms_norm
from evo.blocks.recurrence.decays import DecaySpec
from evo.blocks.recurrence.rates import Decay
from evo.blocks.recurrence.spec import RecurrencePlan
from evo.dsl.plan import BlockPlan
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.recurrence import plan as plan_recurrence
from evo.kernels.recurrence import recur

NORM_EPS = 1e-6
SUM_EPS = 1e-6


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
    q_taps_bias: nn.Parameter | None
    k_taps_bias: nn.Parameter | None
    v_taps_bias: nn.Parameter | None
    gate_down: nn.Parameter | None
    gate_up: nn.Parameter | None
    skip: nn.Parameter | None
    position: Position

    def __init__(self, plan: RecurrencePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.key_dim, self.value_dim = plan.heads, plan.key_dim, plan.value_dim
        self.taps = plan.conv
        self.divides = plan.normalizer == "sum"
        self.feature = FEATURES[plan.feature]
        self.gate_act = GATES.get(plan.gate, identity)
        self.repeats = plan.heads // plan.key_heads
        self.act = None if plan.act == "none" else plan.act
        self.writes_step, self.scale, self.beta_range = plan.write == "step", plan.scale, plan.beta_range
        self.gates_first = plan.gate_at == "before"
        self.head_norm = children.get("head_norm")
        self.rule = plan.rule
        self.decay_of = None if plan.rule is None else decay_function(plan.rule)
        log_decays = () if plan.rule is None else plan.rule.log_decays(self.heads)
        self.head_decay = Constant(torch.tensor(log_decays, dtype=torch.float64))

    @classmethod
    def weight_names(cls, plan: BlockPlan) -> frozenset[str]:
        """Those of its decay, which may be of a kind that this class knows nothing of."""
        assert isinstance(plan, RecurrencePlan)
        weights = () if plan.rule is None else plan.rule.weights(1, plan.heads, plan.key_dim)
        return frozenset(weight.name for weight in weights)

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None, flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The short convolutions of q, k and v, and the recurrence of a parallel pass."""
        projected = self._projected(x_BTD, flow)
        convolutions: list[KernelCall] = [
            plan_convolution(x, weight, activation=self.act, bias_D=bias)
            for x, (weight, bias) in zip(projected, self._taps(), strict=True)
            if weight is not None
        ]
        parts, step_BTH = self._parts(x_BTD, flow)
        return [*convolutions, plan_recurrence(*self._heads(projected, step_BTH, flow), **parts)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> RecurrenceState:
        """Zeros, as before the first token."""
        memory = (batch, self.heads, self.key_dim, self.value_dim + self.divides)
        keys, values = self.heads // self.repeats * self.key_dim, self.heads * self.value_dim
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
        parts, step_BTH = self._parts(x_BTD, flow)
        o_BTHV, memory_BHKV = recur(
            *self._heads(streams, step_BTH, flow),
            **parts,
            scale=self.scale,
            initial_state_BHKV=None if state is None else state.memory_BHKV,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        if self.skip is not None:
            o_BTHV = o_BTHV + self.skip[:, None].to(o_BTHV.dtype) * streams[2].unflatten(-1, (self.heads, -1))
        return self._out(o_BTHV, x_BTD, flow), RecurrenceState(memory_BHKV, past)

    def _heads(self, streams: list[Tensor], step_BTH: Tensor | None, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v by head, turned and through the feature map; v with a column of ones if outputs are divided."""
        q, k, v = streams
        q_BTHK, k_BTHK = (x.unflatten(-1, (-1, self.key_dim)) for x in (q, k))
        v_BTHV = v.unflatten(-1, (self.heads, -1))
        q_BTHK, k_BTHK = self.position.rotate(q_BTHK, k_BTHK, flow.position)
        q_BTHK, k_BTHK = self.feature(q_BTHK), self.feature(k_BTHK)
        if self.repeats > 1:
            q_BTHK, k_BTHK = (x.repeat_interleave(self.repeats, dim=2) for x in (q_BTHK, k_BTHK))
        if self.divides:
            v_BTHV = F.pad(v_BTHV, (0, 1), value=1.0)
        if self.writes_step and step_BTH is not None:
            v_BTHV = v_BTHV * step_BTH[..., None].to(v_BTHV.dtype)
        return q_BTHK, k_BTHK, v_BTHV

    def _parts(self, x_BTD: Tensor, flow: Flow) -> tuple[dict[str, Any], Tensor | None]:
        """What the recurrence has besides q, k and v, and the step that sets the decay."""
        log_decay, step_BTH = (None, None) if self.decay_of is None else self.decay_of(self, self.rule, x_BTD, flow)
        beta_BTH = None if self.beta is None else torch.sigmoid(flow.project(x_BTD, self.beta))
        if beta_BTH is not None and self.beta_range != 1:
            beta_BTH = beta_BTH * self.beta_range
        return {"log_decay": log_decay, "beta_BTH": beta_BTH, "bonus_HK": self.bonus}, step_BTH

    def _streams(
        self, x_BTD: Tensor, past: tuple[Tensor, ...] | None, flow: Flow
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """q, k and v before they are cut into heads, and the new past of their convolutions."""
        projected = self._projected(x_BTD, flow)
        if not self.taps:
            return [F.silu(x) if self.act == "silu" else x for x in projected], ()
        steps = [
            short_convolution(
                stream,
                taps,
                bias_D=bias,
                activation=self.act,
                state_BWD=before,
                segments_BT=flow.segments_BT,
                backend=self.backend,
            )
            for (taps, bias), stream, before in zip(self._taps(), projected, past or (None,) * 3, strict=True)
            if taps is not None
        ]
        return [y for y, _ in steps], tuple(after for _, after in steps)

    def _projected(self, x_BTD: Tensor, flow: Flow) -> list[Tensor]:
        return [flow.project(x_BTD, weight) for weight in (self.q, self.k, self.v)]

    def _taps(self) -> tuple[tuple[Tensor | None, Tensor | None], ...]:
        """The taps of q, k and v, and their biases."""
        return (self.q_taps, self.q_taps_bias), (self.k_taps, self.k_taps_bias), (self.v_taps, self.v_taps_bias)

    def _out(self, o_BTHV: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        if self.divides:
            o_BTHV = o_BTHV[..., :-1] / (o_BTHV[..., -1:] + SUM_EPS)
        gate_BTX = self._gate(x_BTD, flow)
        if gate_BTX is not None and self.gates_first:
            o_BTHV, gate_BTX = o_BTHV * gate_BTX.unflatten(-1, (self.heads, -1)), None
        if self.out_norm is not None:
            o_BTHV = rms_norm(o_BTHV, self.out_norm, NORM_EPS)
        elif self.head_norm is not None:
            o_BTHV = self.head_norm(o_BTHV, flow)
        inner_BTX = o_BTHV.flatten(-2)
        if gate_BTX is not None:
            inner_BTX = inner_BTX * gate_BTX
        return flow.project(inner_BTX, self.o)

    def _gate(self, x_BTD: Tensor, flow: Flow) -> Tensor | None:
        if self.gate is not None:
            return self.gate_act(flow.project(x_BTD, self.gate))
        if self.gate_down is None or self.gate_up is None:
            return None
        return self.gate_act(flow.project(flow.project(x_BTD, self.gate_down), self.gate_up))


def decay_function(rule: DecaySpec) -> Callable[[Recurrence, Any, Tensor, Flow], Decay]:
    """What computes a decay, as its spec names it."""
    module, _, name = rule.rule.partition(":")
    return getattr(importlib.import_module(module), name)
