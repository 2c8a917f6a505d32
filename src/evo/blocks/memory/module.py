"""Neural memory, a chunk at a time: what a token's gradient leaves in the weights is an outer product, so no token's
weights are ever made whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype, in_own_precision
from evo.blocks.flow import Flow, State
from evo.blocks.memory.spec import MemoryPlan
from evo.kernels.documents import apart
from evo.kernels.fused import ACTS

EPS = 1e-6
"""Added to the squared length of queries and keys."""
NORM_EPS = 1e-6
"""Added to the variance of what a memory gives."""


@dataclass(frozen=True)
class MemoryState(State):
    """Where a chunk began, and what the tokens of it have taught so far.

    weights, momenta: (B, H, out, in) a layer; no momenta where there is no momentum. recent: what `_taught` gives of
    the `count` tokens since, then zeros, chunk - 1 in all.
    """

    weights: tuple[Tensor, ...]
    momenta: tuple[Tensor, ...]
    recent: tuple[Tensor, ...]
    count: int = 0


@dataclass(frozen=True)
class Pace:
    """How a chunk's c tokens change a memory, each (B, H, ...): from what was there, and from one another.

    stays_T, carried_T: what is left at each token of the weights and of the momentum that the chunk began with.
    written_TS: of the step at s, what is in the weights at t. momentum_T, pushed_S: the same of the last momentum.
    """

    stays_T: Tensor
    carried_T: Tensor
    written_TS: Tensor
    momentum: Tensor
    pushed_S: Tensor


class Memory(Block):
    """o(gate * M_t(q_t)): equations in README.md."""

    in_torch = ("neural memory",)

    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    step: nn.Parameter
    step_bias: nn.Parameter
    forget: nn.Parameter | None
    forget_bias: nn.Parameter | None
    keep: nn.Parameter | None
    keep_bias: nn.Parameter | None
    memory_0: nn.Parameter
    memory_1: nn.Parameter | None
    gate: nn.Parameter | None
    norm_gain: nn.Parameter | None
    norm_bias: nn.Parameter | None
    o: nn.Parameter

    def __init__(self, plan: MemoryPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.act = plan, ACTS[plan.act]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        if flow.segments_BT is None:
            return self._read(x_BTD, self._first(x_BTD), flow)[0]
        return apart(lambda x_1ND: self._read(x_1ND, self._first(x_1ND), flow)[0], x_BTD, flow.segments_BT)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> MemoryState:
        """The memory that training has found to begin with."""
        compute = torch.promote_types(dtype, torch.float32)
        layers = [weight.expand(batch, *weight.shape).to(compute) for weight in self._layers()]
        momenta = tuple(torch.zeros_like(weight) for weight in layers) if self.plan.momentum else ()
        rows = (batch, self.plan.heads, self.plan.chunk - 1)
        shapes = [(*rows, self.plan.dim)] * 2 + [rows] * (1 + self.plan.forget + self.plan.momentum)
        recent = tuple(torch.zeros(shape, device=device, dtype=compute) for shape in shapes)
        return MemoryState(tuple(layers), momenta, recent)

    def extend(self, x_BTD: Tensor, state: MemoryState, flow: Flow) -> tuple[Tensor, MemoryState]:
        """The next T positions: the steps of the chunk are taken again from its beginning."""
        return self._read(x_BTD, state, flow)

    def _layers(self) -> list[nn.Parameter]:
        return [weight for weight in (self.memory_0, self.memory_1) if weight is not None]

    def _first(self, x_BTD: Tensor) -> MemoryState:
        return self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype)

    def _read(self, x_BTD: Tensor, state: MemoryState, flow: Flow) -> tuple[Tensor, MemoryState]:
        compute, past = compute_dtype(x_BTD), state.count
        taught = self._taught(x_BTD, flow, compute)
        if past:
            taught = tuple(torch.cat((old[:, :, :past], new), 2) for old, new in zip(state.recent, taught, strict=True))
        k, v, steps, *logs = taught
        stays = logs.pop(0) if self.plan.forget else torch.zeros_like(steps)
        q = F.pad(self._unit(self._heads(x_BTD, self.q, flow).to(compute)), (0, 0, past, 0))
        with in_own_precision(x_BTD.device):  # a memory that learns from its own rounding explodes
            y_BHTK, weights, momenta = self._learn(q, k, v, steps, stays, logs[0] if logs else None, state)
        y_BTHK = y_BHTK[:, :, past:].transpose(1, 2).to(x_BTD.dtype)
        if self.gate is not None:
            y_BTHK = y_BTHK * flow.project(x_BTD, self.gate).sigmoid()[..., None]
        count = k.shape[2] % self.plan.chunk
        recent = tuple(_padded(part[:, :, part.shape[2] - count :], self.plan.chunk - 1) for part in taught)
        return flow.project(y_BTHK.flatten(-2), self.o), MemoryState(weights, momenta, recent, count)

    def _learn(
        self,
        q_BHTK: Tensor,
        k_BHTK: Tensor,
        v_BHTK: Tensor,
        steps_BHT: Tensor,
        stays_BHT: Tensor,
        keeps_BHT: Tensor | None,
        state: MemoryState,
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """M_t(q_t) of every token, (B, H, T, K), and the weights and momenta after the last whole chunk."""
        weights, momenta, parts, size = state.weights, state.momenta, list[Tensor](), self.plan.chunk
        for start in range(0, q_BHTK.shape[2], size):
            here = slice(start, start + size)
            pace = _pace(stays_BHT[..., here], None if keeps_BHT is None else keeps_BHT[..., here])
            met = tuple(_met(weight, self.plan.power) for weight in weights)
            errors = self._errors(k_BHTK[:, :, here], v_BHTK[:, :, here], steps_BHT[..., here], met)
            read = _recalled(q_BHTK[:, :, here], weights, momenta, errors, pace, self.plan)
            parts.append(read if self.norm_gain is None else q_BHTK[:, :, here] + self._normed(_standard(read)[0]))
            if start + size <= q_BHTK.shape[2]:
                weights, momenta = _renewed(weights, momenta, errors, pace)
        return torch.cat(parts, dim=2), weights, momenta

    def _heads(self, x_BTD: Tensor, weight: Tensor, flow: Flow) -> Tensor:
        """(B, H, T, K)."""
        return self.act(flow.project(x_BTD, weight)).unflatten(-1, (self.plan.heads, -1)).transpose(1, 2)

    def _unit(self, x_BHTK: Tensor) -> Tensor:
        """Vectors of length one, if queries and keys are."""
        return x_BHTK * (x_BHTK.square().sum(-1, keepdim=True) + EPS).rsqrt() if self.plan.qk_norm else x_BHTK

    def _taught(self, x_BTD: Tensor, flow: Flow, compute: torch.dtype) -> tuple[Tensor, ...]:
        """What each token teaches: its key and value, (B, H, T, K), the size of its step, and the logs of what stays of
        weights and, where there is one, of the momentum, (B, H, T)."""
        k, v = (self._heads(x_BTD, weight, flow).to(compute) for weight in (self.k, self.v))
        step = flow.project(x_BTD, self.step, self.step_bias).to(compute).sigmoid() * self.plan.rate
        stays: list[Tensor] = []
        if self.forget is not None:
            stays.append(F.logsigmoid(-flow.project(x_BTD, self.forget, self.forget_bias).to(compute)))
        if self.keep is not None:
            stays.append(F.logsigmoid(flow.project(x_BTD, self.keep, self.keep_bias).to(compute)))
        return (self._unit(k), v, *(control.transpose(1, 2) for control in (step, *stays)))

    def _errors(self, k: Tensor, v: Tensor, steps: Tensor, weights: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        """For each layer what goes in, and its step times the gradient of what comes out, (B, H, c, in or out)."""
        inputs = [_with_one(k, self.plan.bias)]
        before = z = inputs[0] @ weights[0].mT
        if len(weights) == 2:
            inputs.append(_with_one(F.gelu(z), self.plan.bias))
            z = inputs[1] @ weights[1].mT
        last = steps[..., None] / self.plan.dim * self._slope(z, k, v)
        if len(weights) == 1:
            return [(inputs[0], last)]
        back = last @ weights[1][..., : before.shape[-1]]
        return [(inputs[0], back * _gelu_slope(before)), (inputs[1], last)]

    def _slope(self, z: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The derivative of each token's summed loss by what comes out of its memory, (B, H, c, K)."""
        slope = SLOPES[self.plan.loss]
        if self.norm_gain is None:
            return slope(z - v)
        hat, root = _standard(z)
        pulled = slope(k + self._normed(hat) - v) * self.norm_gain[:, None].to(z.dtype)
        centred = pulled - pulled.mean(-1, keepdim=True)
        return (centred - hat * (pulled * hat).mean(-1, keepdim=True)) / root

    def _normed(self, hat_BHTK: Tensor) -> Tensor:
        """Gains and bias of the norm."""
        assert self.norm_gain is not None
        assert self.norm_bias is not None
        dtype = hat_BHTK.dtype
        return hat_BHTK * self.norm_gain[:, None].to(dtype) + self.norm_bias[:, None].to(dtype)


SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "square": lambda e: 2.0 * e,
    "huber": lambda e: 2.0 * e.clamp(-1.0, 1.0),
    "cube": lambda e: 3.0 * e * e.abs(),
}
"""Derivatives of the losses."""


def _standard(z: Tensor) -> tuple[Tensor, Tensor]:
    """z less its mean over its deviation, along the last dimension, and that deviation."""
    centred = z - z.mean(-1, keepdim=True)
    root = (centred.square().mean(-1, keepdim=True) + NORM_EPS).sqrt()
    return centred / root, root


def _with_one(x: Tensor, has_bias: bool) -> Tensor:
    """Inputs of a layer, with a 1 behind them that its bias is the weight of."""
    return F.pad(x, (0, 1), value=1.0) if has_bias else x


def _padded(x: Tensor, count: int) -> Tensor:
    """(B, H, c, ...) with zeros behind, (B, H, count, ...)."""
    return torch.cat((x, x.new_zeros(*x.shape[:2], count - x.shape[2], *x.shape[3:])), dim=2)


def _gelu_slope(x: Tensor) -> Tensor:
    """The derivative of the exact gelu."""
    return 0.5 * (1.0 + torch.erf(x * 0.5**0.5)) + x * torch.exp(-0.5 * x.square()) / math.sqrt(2.0 * math.pi)


def _pace(stays_T: Tensor, keeps_T: Tensor | None) -> Pace:
    """From the logs of what stays of weights and of momentum at each token."""
    stay_TS, whole_T = _spans(stays_T), stays_T.cumsum(-1).exp()
    if keeps_T is None:
        nothing = torch.zeros_like(whole_T)
        return Pace(whole_T, nothing, stay_TS, nothing[..., -1], nothing)
    keep_TS, kept_T = _spans(keeps_T), keeps_T.cumsum(-1).exp()
    carried_T = (stay_TS @ kept_T[..., None])[..., 0]
    return Pace(whole_T, carried_T, stay_TS @ keep_TS, kept_T[..., -1], keep_TS[..., -1, :])


def _spans(logs_T: Tensor) -> Tensor:
    """exp(sum of logs over s < r <= t), 0 for s > t: (..., T, T)."""
    sums_T = logs_T.cumsum(-1)
    return (sums_T[..., :, None] - sums_T[..., None, :]).tril().exp().tril()


def _recalled(
    x: Tensor,
    weights: tuple[Tensor, ...],
    momenta: tuple[Tensor, ...],
    errors: list[tuple[Tensor, Tensor]],
    pace: Pace,
    plan: MemoryPlan,
) -> Tensor:
    """M_t(q_t) of each token of a chunk, (B, H, c, K)."""
    for index, (weight, (inputs, slopes)) in enumerate(zip(weights, errors, strict=True)):
        x = _with_one(F.gelu(x) if index else x, plan.bias)
        y = pace.stays_T[..., None] * (x @ weight.mT) - (pace.written_TS * (x @ inputs.mT)) @ slopes
        if momenta:
            y = y + pace.carried_T[..., None] * (x @ momenta[index].mT)
        if plan.power is not None:
            each_TOI = _each(weight, momenta[index] if momenta else None, inputs, slopes, pace)
            y = y * _share(each_TOI, plan.power)[..., 0]
        x = y
    return x


def _each(weight: Tensor, momentum: Tensor | None, inputs: Tensor, slopes: Tensor, pace: Pace) -> Tensor:
    """The weights of a layer at each token of a chunk, (B, H, c, out, in)."""
    found = pace.stays_T[..., None, None] * weight[:, :, None]
    if momentum is not None:
        found = found + pace.carried_T[..., None, None] * momentum[:, :, None]
    return found - torch.einsum("bhts,bhso,bhsi->bhtoi", pace.written_TS, slopes, inputs)


def _met(weight: Tensor, power: float | None) -> Tensor:
    """Weights as they are read and taught."""
    return weight if power is None else weight * _share(weight, power)


def _share(weight: Tensor, power: float) -> Tensor:
    """1 / ||A||_q^(q - 2) of the entries of each matrix, (..., 1, 1)."""
    sums = weight.abs().pow(power).sum((-2, -1), keepdim=True)
    return sums.clamp_min(torch.finfo(sums.dtype).tiny) ** ((2.0 - power) / power)


def _renewed(
    weights: tuple[Tensor, ...], momenta: tuple[Tensor, ...], errors: list[tuple[Tensor, Tensor]], pace: Pace
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Weights and momenta after a chunk."""
    new_weights, new_momenta = [], []
    for index, (weight, (inputs, slopes)) in enumerate(zip(weights, errors, strict=True)):
        written = (pace.written_TS[..., -1, :, None] * slopes).mT @ inputs
        new = pace.stays_T[..., -1, None, None] * weight - written
        if momenta:
            new = new + pace.carried_T[..., -1, None, None] * momenta[index]
            pushed = (pace.pushed_S[..., None] * slopes).mT @ inputs
            new_momenta.append(pace.momentum[..., None, None] * momenta[index] - pushed)
        new_weights.append(new)
    return tuple(new_weights), tuple(new_momenta)
