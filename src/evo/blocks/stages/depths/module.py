"""A mixture of depths: picked tokens are gathered into shorter rows, pass a stage, and go back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.residual import Residual
from evo.blocks.stages.depths.spec import PICKS, DepthsPlan
from evo.blocks.stages.dynamic_patches.patchers.module import Patcher, granted
from evo.blocks.stages.stage import Passed, Stage
from evo.blocks.subsequence import Seen, Subsequence, extended
from evo.dsl.spec import TOKENS
from evo.kernels.dispatch import KernelCall

ROUNDING = 1e-9
"""A share of the tokens so far may be whole but for how floats are rounded."""


@dataclass(frozen=True)
class DepthsState(State):
    """What the stage inside kept of the tokens that passed it, a row each."""

    rows: tuple[Seen, ...]


class Depths(Stage):
    """x + share * (f(picked x) - x) at picked tokens, share what is made of r, and 1 where a patcher picks them."""

    chooses = True
    router: nn.Parameter | None

    def __init__(self, plan: DepthsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        body = next(child for child in children.values() if isinstance(child, Stage))
        patcher = children.get("patcher")
        self.of = (Passed(body),)
        self.rule: tuple[Patcher, ...] = (patcher,) if isinstance(patcher, Patcher) else ()

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        return Residual(flow.run(self, self.merged(inputs["x"])))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """The stream behind the stage, (B, T, D)."""
        if self.rule:
            if flow.segments_BT is not None:
                raise ValueError("a rule picks tokens of a row, and does not keep packed documents apart")
            is_picked_BT = self._ruled(x_BTD, x_BTD.new_zeros(x_BTD.shape[0], dtype=torch.int64), flow)
            weight_BT, most = torch.ones_like(x_BTD[..., 0], dtype=compute_dtype(x_BTD)), None
            if flow.has_fixed_shapes:
                most = 1 + int(self.plan.share * (x_BTD.shape[1] - 1) + ROUNDING)
        elif flow.seed is None:
            logit_BT = self._logit(x_BTD, flow)
            is_picked_BT, weight_BT, most = self._positive(logit_BT, flow), self._weight(logit_BT), None
        else:
            logit_BT = self._logit(x_BTD, flow)
            most = max(1, round(self.plan.share * logit_BT.shape[1]))
            is_picked_BT, weight_BT = self._best(logit_BT, most, flow), self._weight(logit_BT)
        picked = Subsequence.of(is_picked_BT, most)
        inner_BND = picked.take(x_BTD)
        made_BND = self.of[0](inner_BND, picked.flow(flow, (TOKENS,)))
        change_BTD = picked.back(made_BND if self.plan.adds == "whole" else made_BND - inner_BND)
        self._tell(is_picked_BT, flow)
        return x_BTD + change_BTD * (weight_BT * is_picked_BT)[..., None].to(x_BTD.dtype)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> DepthsState:
        """No token yet."""
        del device, dtype
        return DepthsState((Seen(),) * batch)

    def extend(self, x_BTD: Tensor, state: DepthsState, flow: Flow) -> tuple[Tensor, DepthsState]:
        """The next T positions."""
        if self.rule:
            passed_B = torch.tensor([row.seen for row in state.rows], device=x_BTD.device)
            is_picked_BT = self._ruled(x_BTD, passed_B, flow)
            weight_BT = torch.ones_like(x_BTD[..., 0], dtype=compute_dtype(x_BTD))
        else:
            logit_BT = self._logit(x_BTD, flow)
            is_picked_BT, weight_BT = self._positive(logit_BT, flow), self._weight(logit_BT)
        y_BTD, rows = extended(self.of[0], x_BTD, is_picked_BT, state.rows, flow, (TOKENS,))
        self._publish(is_picked_BT, flow)
        factor_BT1 = (weight_BT * is_picked_BT)[..., None].to(x_BTD.dtype)
        change_BTD = y_BTD if self.plan.adds == "whole" else y_BTD - x_BTD
        return x_BTD + change_BTD * factor_BT1, DepthsState(rows)

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of its stage, over as many tokens as there are."""
        yield from self.of[0].stage.layer_problems(x_BTD, flow)

    def _logit(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """r, (B, T), in float32 or float64."""
        assert self.router is not None
        return flow.project(x_BTD, self.router).to(compute_dtype(x_BTD))[..., 0]

    def _weight(self, logit_BT: Tensor) -> Tensor:
        """What multiplies what picked tokens are given, (B, T)."""
        weight_BT = logit_BT.sigmoid() if self.plan.weigh == "sigmoid" else logit_BT
        return weight_BT if self.plan.scale == 1.0 else weight_BT * self.plan.scale

    def _among(self, flow: Flow) -> Tensor | None:
        """Whether an earlier stage picked a token, (B, T), where these are what there is to pick."""
        return None if self.plan.picks_from is None else flow.signals[f"{PICKS}{self.plan.picks_from}"]

    def _positive(self, logit_BT: Tensor, flow: Flow) -> Tensor:
        """Whether a token picks itself, (B, T)."""
        among_BT = self._among(flow)
        return logit_BT > 0 if among_BT is None else (logit_BT > 0) & among_BT

    def _ruled(self, x_BTD: Tensor, passed_B: Tensor, flow: Flow) -> Tensor:
        """Whether the rule picks a token, (B, T). passed_B: how many of those before it has."""
        places_T = torch.arange(flow.position, flow.position + x_BTD.shape[1], device=x_BTD.device)
        most_T = 1 + (places_T.double() * self.plan.share + ROUNDING).long()
        return granted(flow.run(self.rule[0], x_BTD), most_T, passed_B, flow.position)

    def _best(self, logit_BT: Tensor, count: int, flow: Flow) -> Tensor:
        """Whether a token is among the best of its row, (B, T). Adds the loss that teaches it without the row."""
        among_BT, found_BT = self._among(flow), logit_BT.detach()
        if among_BT is not None:
            found_BT = found_BT.masked_fill(~among_BT, -torch.inf)
        best_BK = found_BT.topk(count, dim=1).indices
        is_picked_BT = (best_BK[..., None] == torch.arange(logit_BT.shape[1], device=logit_BT.device)).any(1)
        if among_BT is None:
            loss = F.binary_cross_entropy_with_logits(logit_BT, is_picked_BT.to(logit_BT.dtype))
        else:
            is_picked_BT = is_picked_BT & among_BT
            own_BT = is_picked_BT.to(logit_BT.dtype)
            loss_BT = F.binary_cross_entropy_with_logits(logit_BT, own_BT, reduction="none")
            loss = (loss_BT * among_BT).sum() / among_BT.sum().clamp_min(1)
        flow.add_loss("pick", loss, self.plan.pick_loss)
        return is_picked_BT

    def _tell(self, is_picked_BT: Tensor, flow: Flow) -> None:
        flow.tell("picked_share", is_picked_BT.float().mean())
        self._publish(is_picked_BT, flow)

    def _publish(self, is_picked_BT: Tensor, flow: Flow) -> None:
        if self.plan.picks_to is not None:
            flow.signals[f"{PICKS}{self.plan.picks_to}"] = is_picked_BT
