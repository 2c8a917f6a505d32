"""Which of several classes each token meets: routing with its weights, its memory, its losses and what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.experts.network import Network
from evo.blocks.experts.plan import ChooserPlan
from evo.blocks.experts.router import READ_NORM
from evo.blocks.experts.routing import (
    Routes,
    before_mass,
    best,
    hashed,
    loads,
    rivalled,
    scores_of,
    taken,
    weighed,
    within,
)
from evo.blocks.experts.table import Assigned
from evo.blocks.flow import Flow, State
from evo.dsl.spec import TOKENS
from evo.kernels.fused import soft_capped

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


class Chooser(Block):
    """Who meets whom. As it is, it only says so; experts are one that runs what was chosen."""

    chooses = True
    gives_vectors = False
    router: nn.Parameter | None
    router_bias: nn.Parameter | None
    earlier_logits: nn.Parameter | None
    choice_bias: nn.Parameter | None

    def __init__(self, plan: ChooserPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.spec = plan, plan.router
        self.fraction = self.spec.fraction(plan.top, plan.count)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> ExpertsState:
        """No token yet."""
        kept = torch.promote_types(dtype, torch.float32)
        experts = self.plan.count if self.plan.limit is not None else 0
        taken_BE = torch.zeros(batch, experts, device=device, dtype=kept)
        return ExpertsState(taken_BE, torch.zeros(batch, 0, self.plan.count, device=device, dtype=kept))

    def chosen(self, x_BTD: Tensor, flow: Flow) -> Routes:
        """The choices of each token where nothing is remembered of those before it; adds the losses."""
        return self.routes(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def routes(self, x_BTD: Tensor, state: ExpertsState, flow: Flow) -> tuple[Routes, ExpertsState]:
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
        if spec.may_meet_none:
            granted_BTP = granted_BTP & (scores_BTP > 0)
        if spec.top_p is not None:
            granted_BTP = granted_BTP & before_mass(scores_BTP, spec.top_p)
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
        norm, network = self._modules.get(READ_NORM), self._modules.get("network")
        read = norm(x_BTD, flow) if isinstance(norm, Norm) else x_BTD
        read = network(read, flow) if isinstance(network, Network) else read
        logits_BTE = flow.project(read, self.router, self.router_bias).to(compute_dtype(x_BTD))
        if self.earlier_logits is not None:
            *_, name = self.spec.inputs(logits_BTE.shape[-1])  # token ids may stand before it
            logits_BTE = logits_BTE + flow.project(flow.signals[name], self.earlier_logits).to(logits_BTE.dtype)
        flow.signals.update(dict.fromkeys(self.plan.outputs, logits_BTE))
        return logits_BTE

    def _chosen(self, choice_BTE: Tensor | None, granted_BTE: Tensor | None, flow: Flow) -> Tensor:
        if self.spec.choose == "hash":
            return hashed(flow.signals[TOKENS], self.plan.top, self.plan.count)
        table = self._modules.get("assigned")
        if isinstance(table, Assigned):
            return table.chosen(flow.signals[TOKENS])
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

    def _add_losses(self, logits_BTE: Tensor | None, scores_BTE: Tensor | None, routes: Routes, flow: Flow) -> None:
        spec, classes = self.spec, self.plan.classes
        if logits_BTE is None or scores_BTE is None:
            return
        if spec.z_loss:
            flow.add_loss("router_z", logits_BTE.logsumexp(-1).square().mean(), spec.z_loss)
        if spec.entropy:
            log_BTE = logits_BTE.log_softmax(-1)
            flow.add_loss("router_entropy", -(log_BTE.exp() * log_BTE).sum(-1).mean(), spec.entropy)
        if "balance" not in spec.losses():
            return
        # who comes too late has asked all the same
        asked = routes.granted_BTP if spec.meets_fewer else torch.ones_like(routes.granted_BTP)
        loads_E = loads(routes.chosen_BTP, asked, classes, scores_BTE.dtype)
        if spec.balance_weight:
            total_BT1 = 1.0 if spec.may_meet_none else scores_BTE.sum(-1, keepdim=True)
            mean_E = (scores_BTE / total_BT1).mean((0, 1))
            flow.add_loss("balance", classes * (loads_E * mean_E).sum(), spec.balance_weight)
        if self.choice_bias is not None:
            moved_E = self.choice_bias - self.choice_bias.detach()  # zeros, whose gradient is what moves the bias
            flow.add_loss("balance", (moved_E * (loads_E - 1.0 / classes).sign()).sum(), PUSH)
