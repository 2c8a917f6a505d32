"""Selections as attentions meet them: by an index, and by the choice of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.select.indexed import ByIndexPlan, SharedPlan


@dataclass(frozen=True)
class Asked:
    """What an attention is about to do.

    made_of_BTR: what its queries are made of, x itself for most. attend: `evo.kernels.attention.attend` with all that
    the attention says besides q, k, v and the stencil, `scale` among it. The same with `plan` describes the call
    instead of running it. slots_S: where keys stand, None where s stands at s.
    """

    x_BTD: Tensor
    made_of_BTR: Tensor
    q_BTHK: Tensor
    keys_BSGK: Tensor
    values_BSGV: Tensor
    attend: Callable[..., Any]
    scale: float
    slots_S: Tensor | None = None

    def index_input(self) -> Tensor:
        """The stream, and behind it what queries are made of if that is another vector; nothing learns through it."""
        inputs = [self.x_BTD] if self.made_of_BTR is self.x_BTD else [self.x_BTD, self.made_of_BTR]
        return torch.cat([part.detach() for part in inputs], dim=-1)

    def within(self, stencil: Any, seen: Tensor | None) -> Any:
        """The outputs, (B, T, H, V), over what a stencil shows and `seen`, (B, 1 or G, T, S), does not hide."""
        if seen is None:
            return self.attend(self.q_BTHK, self.keys_BSGK, self.values_BSGV, stencil=stencil)
        bias = torch.zeros_like(seen, dtype=self.q_BTHK.dtype).masked_fill(~seen, -torch.inf)
        if seen.shape[1] > 1:
            bias = bias.repeat_interleave(self.q_BTHK.shape[2] // seen.shape[1], dim=1)
        return self.attend(self.q_BTHK, self.keys_BSGK, self.values_BSGV, stencil=stencil, bias_HTS=bias)


class Select(Block):
    """Decides which earlier keys an attention meets."""

    chooses = True

    def attended(self, asked: Asked, stencil: Any, flow: Flow) -> Any:
        """The outputs of the attention, (B, T, H, V); raises nothing that `attend` does not."""
        raise NotImplementedError


class ByIndex(Select):
    """The best tokens or blocks by the scores of an index, the earlier one where scores are equal."""

    def __init__(self, plan: ByIndexPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def attended(self, asked: Asked, stencil: Any, flow: Flow) -> Any:
        scores_BGTU = self._scores(asked, flow)
        chosen_BGTU = self._chosen(scores_BGTU.detach())
        seen_BGTS = chosen_BGTU.repeat_interleave(self.plan.size, dim=-1)[..., : asked.keys_BSGK.shape[1]]
        if self.plan.to is not None:
            flow.signals[self.plan.to] = seen_BGTS[:, 0]
        if torch.is_grad_enabled() and flow.states is None and not asked.q_BTHK.is_meta:
            self._teach(scores_BGTU, chosen_BGTU, seen_BGTS, asked, stencil, flow)
        return asked.within(stencil, self._seen(seen_BGTS, flow))

    def _seen(self, chosen_BGTS: Tensor, flow: Flow) -> Tensor:
        """Which tokens each query meets, when it has chosen these."""
        del flow
        return chosen_BGTS

    def _scores(self, asked: Asked, flow: Flow) -> Tensor:
        """Scores of tokens or blocks, (B, 1 or G, T, U)."""
        scores_BGTS = flow.run(self.child("index"), asked.index_input())
        if self.plan.size == 1:
            return scores_BGTS
        missing = -scores_BGTS.shape[-1] % self.plan.size
        return F.pad(scores_BGTS, (0, missing), value=-torch.inf).unflatten(-1, (-1, self.plan.size)).amax(-1)

    def _chosen(self, scores_BGTU: Tensor) -> Tensor:
        """Which units each query meets, (B, G, T, U) bool."""
        is_visible = scores_BGTU > -torch.inf
        if self.plan.local:
            units = torch.arange(scores_BGTU.shape[-1], device=scores_BGTU.device)
            own_BGT1 = torch.where(is_visible, units, 0).amax(-1, keepdim=True)
            is_local = is_visible & (units > own_BGT1 - self.plan.local)
            scores_BGTU = scores_BGTU.masked_fill(is_local, torch.inf)
        return best(scores_BGTU, self.plan.top) & is_visible

    def _teach(
        self, scores_BGTU: Tensor, chosen_BGTU: Tensor, seen_BGTS: Tensor, asked: Asked, stencil: Any, flow: Flow
    ) -> None:
        """KL from the index's softmax over what was chosen to where attention went (DeepSeek-V3.2, eq. 4)."""
        with torch.no_grad():
            mass_BGTU = self._mass(asked, stencil, seen_BGTS, scores_BGTU)
        flow.add_loss("align", divergence(scores_BGTU, chosen_BGTU, mass_BGTU), self.plan.align)

    def _mass(self, asked: Asked, stencil: Any, seen_BGTS: Tensor, scores_BGTU: Tensor) -> Tensor:
        """Where the heads that share a choice attend, (B, G, T, U), 1 in all: what attention makes of unit vectors."""
        keys, groups = asked.keys_BSGK, scores_BGTU.shape[1]
        units_S1S = torch.eye(keys.shape[1], device=keys.device, dtype=asked.q_BTHK.dtype)[:, None]
        probes = Asked(
            asked.x_BTD,
            asked.made_of_BTR,
            asked.q_BTHK.detach(),
            keys.detach(),
            units_S1S.expand(*keys.shape[:3], -1),
            asked.attend,
            asked.scale,
        )
        shares_BTHS = probes.within(stencil, seen_BGTS).to(scores_BGTU.dtype)
        shares_BGTS = shares_BTHS.unflatten(2, (groups, -1)).mean(3).transpose(1, 2)
        missing = scores_BGTU.shape[-1] * self.plan.size - keys.shape[1]
        mass_BGTU = F.pad(shares_BGTS, (0, missing)).unflatten(-1, (-1, self.plan.size)).sum(-1)
        return mass_BGTU / mass_BGTU.sum(-1, keepdim=True).clamp_min(torch.finfo(mass_BGTU.dtype).tiny)


class Shared(Select):
    """What an earlier attention chose in this pass."""

    def __init__(self, plan: SharedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        (self.name,) = plan.inputs

    def attended(self, asked: Asked, stencil: Any, flow: Flow) -> Any:
        if self.name not in flow.signals and asked.q_BTHK.is_meta:
            batch, tokens, keys = *asked.q_BTHK.shape[:2], asked.keys_BSGK.shape[1]
            flow.signals[self.name] = torch.ones(batch, tokens, keys, device="meta", dtype=torch.bool)
        return asked.within(stencil, flow.signals[self.name][:, None, :, : asked.keys_BSGK.shape[1]])


def divergence(scores_U: Tensor, chosen_U: Tensor, mass_U: Tensor) -> Tensor:
    """KL(mass || softmax of scores over what was chosen), the mean over all axes but the last; 0 of no choice."""
    is_blind = ~chosen_U.any(-1, keepdim=True)
    logits_U = scores_U.masked_fill(~chosen_U & ~is_blind, -torch.inf).masked_fill(is_blind, 0.0)
    logs_U = logits_U.log_softmax(-1).masked_fill(~chosen_U, 0.0)
    return (torch.xlogy(mass_U, mass_U) - mass_U * logs_U).sum(-1).mean()


def best(scores_U: Tensor, top: int) -> Tensor:
    """Which of the last axis are among the `top` largest, (..., U) bool; of equal ones, the earlier."""
    order_U = scores_U.sort(dim=-1, descending=True, stable=True).indices[..., :top]
    return torch.zeros_like(scores_U, dtype=torch.bool).scatter(-1, order_U, True)
