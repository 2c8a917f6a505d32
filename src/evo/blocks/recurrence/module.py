"""The recurrence family as a mixer: projections, features and gates around `evo.kernels.recurrence`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Position, compute_dtype
from evo.blocks.constant import Constant
from evo.blocks.flow import Flow, State
from evo.blocks.norm.rms import rms_norm
from evo.blocks.recurrence.decays import DecaySpec
from evo.blocks.recurrence.feature_maps import FeatureMap
from evo.blocks.recurrence.features import FEATURES, NORM_EPS, identity, mapped, over_sums
from evo.blocks.recurrence.ranks import of_ranks, read_by_rank, spread
from evo.blocks.recurrence.rates import Decay
from evo.blocks.recurrence.readings import read_by_level, read_solved
from evo.blocks.recurrence.shares import erase_by_channel, erase_less, integrated, share_written
from evo.blocks.recurrence.spec import RecurrencePlan
from evo.blocks.recurrence.trapezoid import Written, shares, write_twice
from evo.blocks.recurrence.turning import of_pairs, summed_angles, turn
from evo.dsl.plan import BlockPlan
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import NORM
from evo.kernels.plain import plain_call
from evo.kernels.recurrence import plan as plan_recurrence
from evo.kernels.recurrence import recur
from evo.kernels.recurrence.levels import TABLE as BY_LEVEL


@dataclass(frozen=True)
class RecurrenceState(State):
    """The matrix state of every head, and the inputs of the short convolutions at the latest W - 1 positions.

    memory_BHKV: float32, or float64 for float64 activations; one column more with normalizer sum, K more with `solve`;
    (B, H, L, K, V) with levels. past: for q, k and v, those that are projected, (B, W - 1, C); none without
    convolutions. seen_B: tokens of the last document so far, with levels. turned_BHR: angles that tokens summed to.
    before: the last key and value of each head, where the next token writes them again.
    """

    memory_BHKV: Tensor
    past: tuple[Tensor, ...]
    seen_B: Tensor | None = None
    turned_BHR: Tensor | None = None
    before: Written | None = None


GATES: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "sigmoid": torch.sigmoid}


class Recurrence(Block):
    """S_t = A_t S_{t-1} + update(k_t, v_t), y_t = o(norm(S_t^T q_t) * gate(x_t))."""

    fused = (NORM,)
    q: nn.Parameter
    k: nn.Parameter | None
    v: nn.Parameter
    o: nn.Parameter
    q_taps: nn.Parameter | None
    k_taps: nn.Parameter | None
    v_taps: nn.Parameter | None
    q_map: nn.Parameter | None
    k_map: nn.Parameter | None
    gate: nn.Parameter | None
    beta: nn.Parameter | None
    write_gate: nn.Parameter | None
    erase_gate: nn.Parameter | None
    erase_rate: nn.Parameter | None
    correction: nn.Parameter | None
    turn: nn.Parameter | None
    blend: nn.Parameter | None
    q_bias: nn.Parameter | None
    k_bias: nn.Parameter | None
    ridge: nn.Parameter | None
    level: nn.Parameter | None
    level_gain: nn.Parameter | None
    out_norm: nn.Parameter | None
    bonus: nn.Parameter | None
    decay: nn.Parameter | None
    decay_down: nn.Parameter | None
    decay_up: nn.Parameter | None
    decay_bias: nn.Parameter | None
    decay_rate: nn.Parameter | None
    decay_rates: nn.Parameter | None
    q_taps_bias: nn.Parameter | None
    k_taps_bias: nn.Parameter | None
    v_taps_bias: nn.Parameter | None
    gate_down: nn.Parameter | None
    gate_up: nn.Parameter | None
    skip: nn.Parameter | None
    value_ranks: nn.Parameter | None
    gate_ranks: nn.Parameter | None
    out_ranks: nn.Parameter | None
    position: Position

    def __init__(self, plan: RecurrencePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.key_dim, self.value_dim = plan.heads, plan.key_dim, plan.value_dim
        self.taps = plan.conv
        self.divides, self.are_positive = plan.normalizer == "sum", plan.feature != "fourier"
        self.columns = plan.value_dim + self.divides
        self.solve, self.levels, self.turns, self.ranks = plan.solve, plan.levels, plan.turns, plan.ranks
        self.feature, self.features = FEATURES.get(plan.feature, identity), plan.features
        self.gate_act = GATES.get(plan.gate, identity)
        self.writes, self.names = plan.writes, "qv" if plan.keys_from_decay else "qkv"
        self.repeats = plan.heads // plan.key_heads
        self.act = None if plan.act == "none" else plan.act
        self.writes_step, self.writes_rest = plan.write == "step", plan.write == "rest"
        self.scale, self.beta_range = plan.scale, plan.beta_range
        self.erase, self.integrator = plan.erase, plan.integrator
        self.gates_first = plan.gate_at == "before"
        self.head_norm = children.get("head_norm")
        self.norms = [children[name] for name in ("q_norm", "k_norm") if name in children]
        self.rule, self.outputs = plan.rule, plan.outputs
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
        (q, k, v), parts, _ = self._posed(projected, None, x_BTD, flow)
        parts.pop("trapezoid")
        if self.level is not None:
            return [*convolutions, plain_call(BY_LEVEL, x_BTD)]
        if self.value_ranks is not None:
            (q, k, v), parts = spread((q, k, v), self.value_ranks, parts)
        found = plan_recurrence(q, k, v[..., : self.columns], **parts)
        if self.blend is not None:
            return [*convolutions, found, found]
        return [*convolutions, found] if not self.solve else [*convolutions, plan_recurrence(q, k, k, **parts), found]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> RecurrenceState:
        """Zeros, as before the first token."""
        kept = torch.promote_types(dtype, torch.float32)
        columns = self.columns + (self.features if self.solve else 0)
        memory = (batch, self.heads, *((self.levels,) if self.levels else ()), self.features, columns)
        sizes = [weight.shape[0] for weight, _ in self._taps() if weight is not None]
        return RecurrenceState(
            torch.zeros(memory, device=device, dtype=kept),
            tuple(torch.zeros(batch, self.taps - 1, size, device=device, dtype=dtype) for size in sizes),
            torch.zeros(batch, device=device, dtype=torch.long) if self.levels else None,
            torch.zeros(batch, self.heads, self.key_dim // 2, device=device, dtype=kept) if self.turns else None,
            None
            if self.blend is None
            else (
                torch.zeros(batch, self.heads * self.ranks, self.features, device=device, dtype=dtype),
                torch.zeros(batch, self.heads * self.ranks, self.columns, device=device, dtype=dtype),
            ),
        )

    def extend(self, x_BTD: Tensor, state: RecurrenceState, flow: Flow) -> tuple[Tensor, RecurrenceState]:
        """The next T positions."""
        return self._mix(x_BTD, state, flow)

    def _mix(self, x_BTD: Tensor, state: RecurrenceState | None, flow: Flow) -> tuple[Tensor, RecurrenceState]:
        streams, past = self._streams(x_BTD, None if state is None else state.past, flow)
        before_BHR = None if state is None else state.turned_BHR
        heads, parts, turned_BHR = self._posed(streams, before_BHR, x_BTD, flow)
        terms, written = parts.pop("trapezoid"), None
        segments_BT, n = flow.segments_BT, self.writes
        if segments_BT is not None and n > 1:
            segments_BT = segments_BT.repeat_interleave(n, dim=1)
        called = {**parts, "segments_BT": segments_BT, "backend": self.backend}
        memory_BHKV, seen_B = (None, None) if state is None else (state.memory_BHKV, state.seen_B)
        if self.level is not None:
            weight_BTHL = self._level_weights(x_BTD, flow)
            o_BTHV, memory_BHKV, seen_B = read_by_level(heads, weight_BTHL, memory_BHKV, seen_B, self.scale, called)
        elif self.ridge is not None:
            o_BTHV, memory_BHKV = read_solved(heads, self.ridge, self.solve, memory_BHKV, self.scale, called)
        elif self.value_ranks is not None:
            before = None if state is None else state.before
            read = read_by_rank(heads, self.value_ranks, terms, before, memory_BHKV, self.scale, called)
            o_BTHV, memory_BHKV, written = self._summed(read[0], streams[-1], x_BTD, flow), *read[1:]
        elif terms is not None:
            before = None if state is None else state.before
            o_BTHV, memory_BHKV, written = write_twice(heads, terms, before, memory_BHKV, self.scale, called)
        else:
            o_BTHV, memory_BHKV = recur(*heads, **called, scale=self.scale, initial_state_BHKV=memory_BHKV)
        o_BTHV = o_BTHV[:, n - 1 :: n]
        if self.skip is not None and self.ranks == 1:
            o_BTHV = o_BTHV + self.skip[:, None].to(o_BTHV.dtype) * streams[-1].unflatten(-1, (self.heads, -1))
        return self._out(o_BTHV, x_BTD, flow), RecurrenceState(memory_BHKV, past, seen_B, turned_BHR, written)

    def _summed(self, o_BTHRV: Tensor, v_BTX: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What all ranks read, gated, as one head's."""
        assert self.value_ranks is not None
        assert self.out_ranks is not None
        if self.skip is not None:
            o_BTHRV = o_BTHRV + self.skip[:, None, None].to(o_BTHRV.dtype) * of_ranks(v_BTX, self.value_ranks)
        if self.gate_ranks is not None:
            o_BTHRV = o_BTHRV * self.gate_act(of_ranks(self._gate_logits(x_BTD, flow), self.gate_ranks))
        return (o_BTHRV * self.out_ranks.to(o_BTHRV.dtype)).sum(3)

    def _level_weights(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What each level counts for, (B, T, H, L), in float32 or wider."""
        assert self.level is not None
        assert self.level_gain is not None
        logit_BTHL = flow.project(x_BTD, self.level).to(compute_dtype(x_BTD)).unflatten(-1, (self.heads, -1))
        return F.softplus(self.level_gain * logit_BTHL)

    def _posed(
        self, streams: list[Tensor], before_BHR: Tensor | None, x_BTD: Tensor, flow: Flow
    ) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any], Tensor | None]:
        """q, k and v, and what `recur` is given besides, write by write; and the angles that tokens summed to."""
        parts, step_BTH = self._parts(x_BTD, flow)
        rest = -parts["log_decay"].expm1() if self.writes_rest else None
        angle_BTHR = None
        if self.turn is not None:
            rate_BTGR = flow.project(x_BTD, self.turn).to(compute_dtype(x_BTD)).unflatten(-1, (-1, self.key_dim // 2))
            angle_BTHR = summed_angles(self._repeated(rate_BTGR), step_BTH, before_BHR)
            parts = {**parts, "log_decay": of_pairs(parts["log_decay"])}
        heads = self._heads(streams, parts["log_decay"], step_BTH, angle_BTHR, flow)
        q_BTHK, k_BTHK, v_BTHV = self._written(heads)
        if rest is not None:
            v_BTHV = v_BTHV * rest[..., None].to(v_BTHV.dtype)
        parts = integrated(k_BTHK, self._spread(parts), self.integrator)
        if self.write_gate is not None:
            v_BTHV = v_BTHV * flow.project(x_BTD, self.write_gate).sigmoid().unflatten(-1, (self.heads, -1))
        if self.erase == "":
            v_BTHV, parts = share_written(v_BTHV, parts)
        elif self.erase_rate is not None:
            v_BTHV, parts = erase_less(v_BTHV, self.erase_rate, parts)
        elif self.erase_gate is not None:
            gate_BTGK = self.beta_range * flow.project(x_BTD, self.erase_gate).sigmoid().unflatten(
                -1, (-1, self.key_dim)
            )
            v_BTHV, parts = erase_by_channel(k_BTHK, v_BTHV, self._repeated(gate_BTGK), parts)
        return (q_BTHK, k_BTHK, v_BTHV), parts, None if angle_BTHR is None else angle_BTHR[:, -1]

    def _repeated(self, x_BTGK: Tensor, ranks: int = 1) -> Tensor:
        """What a head of keys has, for each state that it serves; if it has so many keys, all of them."""
        if self.repeats == 1:
            return x_BTGK
        return x_BTGK.unflatten(2, (-1, ranks)).repeat_interleave(self.repeats, dim=2).flatten(2, 3)

    def _heads(
        self,
        streams: list[Tensor],
        log_decay: Tensor | None,
        step_BTH: Tensor | None,
        angle_BTHR: Tensor | None,
        flow: Flow,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v by head, turned and through the feature map; v with a column of ones if outputs are divided.

        Where a token writes n times, k and v have n heads for one, those of the first time first.
        """
        q_BTHK = streams[0].unflatten(-1, (-1, self.key_dim))
        v_BTHV = streams[-1].unflatten(-1, (-1, self.value_dim))
        if self.k is None:
            assert log_decay is not None
            q_BTHK, k_BTHK = self.feature(q_BTHK), -log_decay.expm1().to(q_BTHK.dtype)
        else:
            k_BTHK = streams[1].unflatten(-1, (-1, self.key_dim))
            if self.norms:
                q_BTHK, k_BTHK = (norm(x, flow) for norm, x in zip(self.norms, (q_BTHK, k_BTHK), strict=True))
            q_BTHK, k_BTHK = self.position.rotate(q_BTHK, k_BTHK, flow.position)
            if self.correction is not None:
                q_BTHK = q_BTHK - self.correction[:, None].to(q_BTHK.dtype) * k_BTHK
            q_BTHK, k_BTHK = (mapped(x, m, flow) for x, m in ((q_BTHK, self.q_map), (k_BTHK, self.k_map)))
            feature_map = self._modules.get("feature_map")
            if isinstance(feature_map, FeatureMap):
                q_BTHK, k_BTHK = feature_map.pair(q_BTHK, k_BTHK, flow.position)
            q_BTHK, k_BTHK = self.feature(q_BTHK), self.feature(k_BTHK)
        q_BTHK, k_BTHK = self._repeated(q_BTHK, self.ranks), self._repeated(k_BTHK, self.ranks)
        if self.q_bias is not None and self.k_bias is not None:
            q_BTHK, k_BTHK = q_BTHK + self.q_bias.to(q_BTHK.dtype), k_BTHK + self.k_bias.to(k_BTHK.dtype)
        if angle_BTHR is not None:
            angle_BTHR = angle_BTHR if self.ranks == 1 else angle_BTHR.repeat_interleave(self.ranks, dim=2)
            q_BTHK, k_BTHK = turn(q_BTHK, angle_BTHR), turn(k_BTHK, angle_BTHR)
        if self.divides:
            v_BTHV = F.pad(v_BTHV, (0, 1), value=1.0)
        if self.solve:
            v_BTHV = torch.cat((v_BTHV, k_BTHK), dim=-1)
        if self.writes_step and step_BTH is not None:
            v_BTHV = v_BTHV * step_BTH[..., None].to(v_BTHV.dtype)
        return q_BTHK, k_BTHK, v_BTHV

    def _written(self, heads: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v one write after the other: n positions for each token, which is read behind the last."""
        if self.writes == 1:
            return heads
        q_BTHK, k_BTHK, v_BTHV = heads
        k_BTHK, v_BTHV = (x.unflatten(2, (self.writes, -1)).flatten(1, 2) for x in (k_BTHK, v_BTHV))
        return q_BTHK.repeat_interleave(self.writes, dim=1), k_BTHK, v_BTHV

    def _spread(self, parts: dict[str, Any]) -> dict[str, Any]:
        """What a recurrence has besides, write by write: a token forgets before its first."""
        if self.writes == 1:
            return parts
        beta_BTH, log_decay = parts["beta_BTH"].unflatten(-1, (self.writes, -1)).flatten(1, 2), parts["log_decay"]
        if log_decay is not None:
            if log_decay.ndim == 1:
                log_decay = log_decay.expand(beta_BTH.shape[0], beta_BTH.shape[1] // self.writes, -1)
            later = log_decay.new_zeros(*log_decay.shape[:2], self.writes - 1, *log_decay.shape[2:])
            log_decay = torch.cat((log_decay[:, :, None], later), dim=2).flatten(1, 2)
        return {**parts, "beta_BTH": beta_BTH, "log_decay": log_decay}

    def _parts(self, x_BTD: Tensor, flow: Flow) -> tuple[dict[str, Any], Tensor | None]:
        """What it has besides q, k and v, and the step that sets the decay."""
        log_decay, step_BTH = (None, None) if self.decay_of is None else self.decay_of(self, self.rule, x_BTD, flow)
        beta_BTH = None if self.beta is None else torch.sigmoid(flow.project(x_BTD, self.beta))
        if beta_BTH is not None and self.beta_range != 1 and self.erase in ("written", "head"):
            beta_BTH = beta_BTH * self.beta_range
        terms = None
        if self.blend is not None:
            assert log_decay is not None
            assert step_BTH is not None
            terms = shares(step_BTH, flow.project(x_BTD, self.blend).to(step_BTH.dtype).sigmoid(), log_decay)
        parts = {"log_decay": log_decay, "beta_BTH": beta_BTH, "bonus_HK": self.bonus, "trapezoid": terms}
        return parts, step_BTH

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
            for (taps, bias), stream, before in zip(
                self._taps(), projected, past or (None,) * len(projected), strict=True
            )
            if taps is not None
        ]
        return [y for y, _ in steps], tuple(after for _, after in steps)

    def _projected(self, x_BTD: Tensor, flow: Flow) -> list[Tensor]:
        return [flow.project(x_BTD, getattr(self, name)) for name in self.names]

    def _taps(self) -> list[tuple[Tensor | None, Tensor | None]]:
        """The taps of what is projected, and their biases."""
        return [(getattr(self, f"{name}_taps"), getattr(self, f"{name}_taps_bias")) for name in self.names]

    def _out(self, o_BTHV: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        if self.divides:
            o_BTHV = over_sums(o_BTHV, self.are_positive)
        flow.signals.update(dict.fromkeys(self.outputs, o_BTHV.flatten(-2)))
        gate_BTX = self._gate(x_BTD, flow) if self.ranks == 1 else None
        if gate_BTX is not None and self.gates_first:
            o_BTHV, gate_BTX = o_BTHV * gate_BTX.unflatten(-1, (self.heads, -1)), None
        if self.out_norm is not None:
            o_BTHV = rms_norm(o_BTHV, self.out_norm, NORM_EPS, self.fused_backend)
        elif self.head_norm is not None:
            o_BTHV = self.head_norm(o_BTHV, flow)
        inner_BTX = o_BTHV.flatten(-2)
        if gate_BTX is not None:
            inner_BTX = inner_BTX * gate_BTX
        return flow.project(inner_BTX, self.o)

    def _gate(self, x_BTD: Tensor, flow: Flow) -> Tensor | None:
        has_gate = self.gate is not None or self.gate_down is not None
        return self.gate_act(self._gate_logits(x_BTD, flow)) if has_gate else None

    def _gate_logits(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        if self.gate is not None:
            return flow.project(x_BTD, self.gate)
        assert self.gate_down is not None
        assert self.gate_up is not None
        return flow.project(flow.project(x_BTD, self.gate_down), self.gate_up)


def decay_function(rule: DecaySpec) -> Callable[[Recurrence, Any, Tensor, Flow], Decay]:
    """What computes a decay, as its spec names it."""
    module, _, name = rule.rule.partition(":")
    return getattr(importlib.import_module(module), name)
