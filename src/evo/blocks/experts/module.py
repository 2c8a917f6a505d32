"""Experts: rows sorted by the expert they meet, one grouped product a matrix, and what is reported of their loads."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.experts.chooser import Chooser, ExpertsState
from evo.blocks.experts.met import Met
from evo.blocks.experts.routing import Routes
from evo.blocks.experts.spec import ExpertsPlan
from evo.blocks.flow import Flow
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import PERMUTE, UNPERMUTE
from evo.kernels.grouped import plan as plan_grouped


class Experts(Chooser):
    """sum over a token's experts e of share_e * f_e(x), and the shared ones."""

    fused = (PERMUTE, UNPERMUTE)
    plan: ExpertsPlan
    latent_in: nn.Parameter | None
    latent_out: nn.Parameter | None
    shared_gate: nn.Parameter | None
    bias: nn.Parameter | None
    constant: nn.Parameter | None
    constant_mix: nn.Parameter | None
    routed: Block

    def __init__(self, plan: ExpertsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.shared = tuple(children[f"shared{index}"] for index in range(len(plan.gated)))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

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
        routes, state = self.routes(x_BTD, state, flow)
        inner_BTD = x_BTD if self.latent_in is None else flow.project(x_BTD, self.latent_in)
        y_BTD = self._sum_of_chosen(inner_BTD.flatten(0, 1), routes, flow).unflatten(0, x_BTD.shape[:2])
        if self.latent_out is not None:
            y_BTD = flow.project(y_BTD, self.latent_out)
        if self.bias is not None:
            y_BTD = y_BTD + self.bias
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

    def _sum_of_chosen(self, x_ND: Tensor, routes: Routes, flow: Flow) -> Tensor:
        """The weighed sum of what each row's choices give, (N, D)."""
        chosen_NP, shares_NP = routes.chosen_BTP.flatten(0, 1), routes.shares_BTP.flatten(0, 1).to(x_ND.dtype)
        before_NP, after_NP = None, shares_NP
        if self.plan.on == "input":
            before_NP, after_NP = shares_NP, routes.granted_BTP.flatten(0, 1)
        met = Met(chosen_NP.flatten(), self.plan.count, self.backend)
        y_RD = self.routed(met.together(x_ND, before_NP), flow.grouped(met.groups))
        if self.plan.classes == self.plan.count:
            return met.summed(y_RD, after_NP)
        y_ND = met.summed(y_RD, after_NP * (chosen_NP < self.plan.count))
        return y_ND + self._sum_of_idle(x_ND, chosen_NP, before_NP, after_NP, flow).to(y_ND.dtype)

    def _sum_of_idle(
        self, x_ND: Tensor, chosen_NP: Tensor, before_NP: Tensor | None, after_NP: Tensor, flow: Flow
    ) -> Tensor:
        """The weighed sum of what those choices give that are no experts, (N, D).

        before_NP, after_NP: what multiplies what such a choice gets, if anything, and what it gives.
        """
        first = self.plan.count
        own_NP = ((chosen_NP >= first) & (chosen_NP < first + self.plan.identity)).to(x_ND.dtype)
        through_NP = after_NP if before_NP is None else after_NP * before_NP
        if self.constant is None:
            return x_ND * (through_NP * own_NP).sum(-1, keepdim=True)
        at_NP = (chosen_NP - (self.plan.classes - self.plan.constant)).clamp_min(0)
        mixed_NP, vector_NP = self._mixed(x_ND, at_NP, before_NP, flow)
        is_vector_NP = chosen_NP >= self.plan.classes - self.plan.constant
        vectors_NPD = self.constant.to(x_ND.dtype)[at_NP] * (after_NP * vector_NP * is_vector_NP)[..., None]
        own_NP = own_NP + mixed_NP * is_vector_NP
        return x_ND * (through_NP * own_NP).sum(-1, keepdim=True) + vectors_NPD.sum(1)

    def _mixed(self, x_ND: Tensor, at_NP: Tensor, before_NP: Tensor | None, flow: Flow) -> tuple[Tensor, Tensor]:
        """How much a choice of each learned vector gives of what it gets, and of the vector: (N, P) each."""
        assert self.constant_mix is not None
        read_NXD = x_ND[:, None] if before_NP is None else x_ND[:, None] * before_NP[..., None]
        mixes_NXC2 = flow.project(read_NXD, self.constant_mix).unflatten(-1, (-1, 2)).softmax(-1)
        mixes_NPC2 = mixes_NXC2.expand(-1, at_NP.shape[1], -1, -1)
        mixed_NP, vector_NP = mixes_NPC2.gather(-2, at_NP[..., None, None].expand(-1, -1, 1, 2))[..., 0, :].unbind(-1)
        return mixed_NP, vector_NP
