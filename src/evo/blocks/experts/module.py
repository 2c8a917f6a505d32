"""Experts: rows sorted by the expert they meet, one grouped product a matrix, and what is reported of their loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.experts.routing import Routes, best, hashed, loads, rivalled, scores_of, taken, weighed, within
from evo.blocks.experts.spec import ExpertsPlan
from evo.blocks.flow import Flow, State
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import soft_capped
from evo.kernels.grouped import Groups
from evo.kernels.grouped import plan as plan_grouped

PUSH = 1e-3
"""The size of the choice bias's gradient: small, so that it has no weight in a norm that all gradients are clipped by.
Rules that divide by a gradient's size, as AdamW and Lion do, move it by their rate."""


@dataclass(frozen=True)
class ExpertsState(State):
    """What routing remembers.

    taken_BE: how many tokens each expert has taken, where its capacity is limited. scores_BSE: the scores of all tokens
        so far, where experts choose. Each is empty otherwise.
    """

    taken_BE: Tensor
    scores_BSE: Tensor


class Experts(Block):
    """sum over a token's experts e of share_e * f_e(x), and the shared ones."""

    router: nn.Parameter | None
    router_bias: nn.Parameter | None
    choice_bias: nn.Parameter | None
    latent_in: nn.Parameter | None
    latent_out: nn.Parameter | None
    shared_gate: nn.Parameter | None
    routed: Block

    def __init__(self, plan: ExpertsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.spec = plan, plan.router
        self.shared = tuple(child for name, child in children.items() if name != "routed")
        self.fraction = self.spec.fraction(plan.top, plan.count)

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> ExpertsState:
        """No token yet."""
        kept = torch.promote_types(dtype, torch.float32)
        experts = self.plan.count if self.plan.limit is not None else 0
        taken_BE = torch.zeros(batch, experts, device=device, dtype=kept)
        return ExpertsState(taken_BE, torch.zeros(batch, 0, self.plan.count, device=device, dtype=kept))

    def extend(self, x_BTD: Tensor, state: ExpertsState, flow: Flow) -> tuple[Tensor, ExpertsState]:
        """The next T positions. Raises ValueError where the choice sees the future."""
        if not self.spec.is_causal:
            raise ValueError("experts that choose among all tokens are not causal and cannot decode")
        return self._mix(x_BTD, state, flow)

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The grouped products of a pass."""
        rows = x_BTD.shape[0] * x_BTD.shape[1] * self.plan.top
        stacks = [weight for weight in self.routed.parameters() if weight.ndim == 3]
        return [plan_grouped(x_BTD.new_empty(rows, stack.shape[2]), stack) for stack in stacks]

    def _mix(self, x_BTD: Tensor, state: ExpertsState, flow: Flow) -> tuple[Tensor, ExpertsState]:
        routes, state = self._routes(x_BTD, state, flow)
        inner_BTD = x_BTD if self.latent_in is None else flow.project(x_BTD, self.latent_in)
        y_BTD = self._sum_of_chosen(inner_BTD.flatten(0, 1), routes, flow).unflatten(0, x_BTD.shape[:2])
        if self.latent_out is not None:
            y_BTD = flow.project(y_BTD, self.latent_out)
        return self._with_shared(y_BTD, x_BTD, routes.shared_BTG, flow), state

    def _with_shared(self, y_BTD: Tensor, x_BTD: Tensor, shares_BTG: Tensor, flow: Flow) -> Tensor:
        gates_BTG = None if self.shared_gate is None else flow.project(x_BTD, self.shared_gate).sigmoid()
        gates = iter(() if gates_BTG is None else gates_BTG.unbind(-1))
        shares = iter(shares_BTG.to(x_BTD.dtype).unbind(-1))
        for child, is_gated, is_routed in zip(self.shared, self.plan.gated, self.plan.routed_shared, strict=True):
            part_BTD = flow.run(child, x_BTD)
            if is_gated or is_routed:
                part_BTD = part_BTD * next(gates if is_gated else shares)[..., None]
            y_BTD = y_BTD + part_BTD
        return y_BTD

    def _routes(self, x_BTD: Tensor, state: ExpertsState, flow: Flow) -> tuple[Routes, ExpertsState]:
        """Who meets whom, and what is remembered of it; adds the losses."""
        spec, plan = self.spec, self.plan
        logits_BTE = self._logits(x_BTD, flow)
        scores_BTE = None if logits_BTE is None else scores_of(logits_BTE, spec)
        shared_BTG = x_BTD.new_empty(*x_BTD.shape[:2], 0)
        if logits_BTE is not None and scores_BTE is not None and any(plan.routed_shared):
            logits_BTE, shared_BTG = logits_BTE[..., : plan.classes], scores_BTE[..., plan.classes :]
            scores_BTE = scores_BTE[..., : plan.classes]
        choice_BTE = scores_BTE if spec.choice_of == "score" else logits_BTE
        granted_BTE = None
        if spec.choose == "each_expert":
            assert scores_BTE is not None
            own_BTE = scores_BTE[..., : plan.count]
            granted_BTE = taken(own_BTE, state.scores_BSE, self.fraction, flow.segments_BT, spec.causal)
            state = ExpertsState(state.taken_BE, torch.cat((state.scores_BSE, own_BTE), dim=1))
        chosen_BTP = self._chosen(choice_BTE, granted_BTE, flow)
        granted_BTP, state = self._granted(chosen_BTP, granted_BTE, state, flow)
        if scores_BTE is None or logits_BTE is None:
            scores_BTP = granted_BTP.new_ones(granted_BTP.shape, dtype=compute_dtype(x_BTD))
        elif spec.rivals is not None:
            scores_BTP = rivalled(soft_capped(logits_BTE, spec.soft_cap), chosen_BTP, spec.rivals)
        else:
            scores_BTP = scores_BTE.gather(-1, chosen_BTP)
        shares_BTX = weighed(
            torch.cat((scores_BTP, shared_BTG), dim=-1), F.pad(granted_BTP, (0, shared_BTG.shape[-1]), value=True), spec
        )
        routes = Routes(chosen_BTP, shares_BTX[..., : plan.top], granted_BTP, shares_BTX[..., plan.top :])
        self._add_losses(logits_BTE, scores_BTE, routes, flow)
        if flow.figures is not None:
            own_E = loads(chosen_BTP, granted_BTP, plan.classes, compute_dtype(x_BTD))[: plan.count] * plan.classes
            flow.tell("load_balance_std", own_E.std(correction=0))
            flow.tell("expert_utilization", (own_E > 0).to(own_E.dtype).mean())
        return routes, state

    def _logits(self, x_BTD: Tensor, flow: Flow) -> Tensor | None:
        if self.router is None:
            return None
        return flow.project(x_BTD, self.router, self.router_bias).to(compute_dtype(x_BTD))

    def _chosen(self, choice_BTE: Tensor | None, granted_BTE: Tensor | None, flow: Flow) -> Tensor:
        if self.spec.choose == "hash":
            return hashed(flow.signals["tokens"], self.plan.top, self.plan.count)
        assert choice_BTE is not None
        choice_BTE = choice_BTE.detach()
        if self.choice_bias is not None:
            choice_BTE = choice_BTE + self.choice_bias.detach()
        if granted_BTE is not None:
            idle = self.plan.classes - self.plan.count
            choice_BTE = choice_BTE.masked_fill(~F.pad(granted_BTE, (0, idle), value=True), -torch.inf)
        return best(choice_BTE, self.plan.top, self.spec)

    def _granted(
        self, chosen_BTP: Tensor, granted_BTE: Tensor | None, state: ExpertsState, flow: Flow
    ) -> tuple[Tensor, ExpertsState]:
        is_idle_BTP = chosen_BTP >= self.plan.count
        if granted_BTE is not None:
            expert_BTP = chosen_BTP.clamp_max(self.plan.count - 1)
            return granted_BTE.gather(-1, expert_BTP) | is_idle_BTP, state
        if self.plan.limit is None:
            return torch.ones_like(is_idle_BTP), state
        room_BTP, taken_BE = within(chosen_BTP, state.taken_BE, self.plan.limit, flow.segments_BT)
        return room_BTP | is_idle_BTP, ExpertsState(taken_BE, state.scores_BSE)

    def _sum_of_chosen(self, x_ND: Tensor, routes: Routes, flow: Flow) -> Tensor:
        """The weighed sum of what each row's choices give, (N, D)."""
        chosen_NP, shares_NP = routes.chosen_BTP.flatten(0, 1), routes.shares_BTP.flatten(0, 1).to(x_ND.dtype)
        top, count = self.plan.top, self.plan.count
        rows_NPD = x_ND[:, None].expand(-1, top, -1)
        given_NPD = rows_NPD * shares_NP[..., None] if self.plan.on == "input" else rows_NPD
        flat_R = chosen_NP.flatten()
        order_R = flat_R.argsort(stable=True)  # rows of idle classes come last, and ride with the last expert
        counts_E = (flat_R[:, None] == torch.arange(count, device=x_ND.device)).sum(0)
        idle_1 = flat_R.shape[0] - counts_E.sum(0, keepdim=True)
        groups = Groups(torch.cat((counts_E[:-1], counts_E[-1:] + idle_1)), self.backend)
        sorted_RD = given_NPD.flatten(0, 1).index_select(0, order_R)
        y_RD = self.routed(sorted_RD, flow.grouped(groups)).index_select(0, order_R.argsort())
        y_NPD = y_RD.unflatten(0, (-1, top))
        if self.plan.classes > count:
            is_copy_NP = chosen_NP < count + self.plan.identity
            idle_NPD = given_NPD * is_copy_NP[..., None]
            y_NPD = torch.where((chosen_NP < count)[..., None], y_NPD, idle_NPD.to(y_NPD.dtype))
        factors_NP = routes.granted_BTP.flatten(0, 1) if self.plan.on == "input" else shares_NP
        return (y_NPD * factors_NP[..., None].to(y_NPD.dtype)).sum(1)

    def _add_losses(self, logits_BTE: Tensor | None, scores_BTE: Tensor | None, routes: Routes, flow: Flow) -> None:
        spec, classes = self.spec, self.plan.classes
        if logits_BTE is None or scores_BTE is None:
            return
        if spec.z_loss:
            flow.add_loss("router_z", logits_BTE.logsumexp(-1).square().mean(), spec.z_loss)
        if "balance" not in spec.losses():
            return
        everyone = torch.ones_like(routes.granted_BTP)  # who comes too late has asked all the same
        loads_E = loads(routes.chosen_BTP, everyone, classes, scores_BTE.dtype)
        if spec.balance_weight:
            mean_E = (scores_BTE / scores_BTE.sum(-1, keepdim=True)).mean((0, 1))
            flow.add_loss("balance", classes * (loads_E * mean_E).sum(), spec.balance_weight)
        if self.choice_bias is not None:
            moved_E = self.choice_bias - self.choice_bias.detach()  # zeros, whose gradient is what moves the bias
            flow.add_loss("balance", (moved_E * (loads_E - 1.0 / classes).sign()).sum(), PUSH)
