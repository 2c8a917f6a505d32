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
from evo.blocks.stages.depths.spec import DepthsPlan
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
    """x + r * (f(picked x) - x) at picked tokens; r is 1 where a patcher picks them."""

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
            weight_BT = self._weight(x_BTD, flow)
            is_picked_BT, most = weight_BT > 0, None
        else:
            weight_BT = self._weight(x_BTD, flow)
            most = max(1, round(self.plan.share * weight_BT.shape[1]))
            is_picked_BT = self._best(weight_BT, most, flow)
        picked = Subsequence.of(is_picked_BT, most)
        inner_BND = picked.take(x_BTD)
        change_BTD = picked.back(self.of[0](inner_BND, picked.flow(flow, (TOKENS,))) - inner_BND)
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
            weight_BT = self._weight(x_BTD, flow)
            is_picked_BT = weight_BT > 0
        y_BTD, rows = extended(self.of[0], x_BTD, is_picked_BT, state.rows, flow, (TOKENS,))
        factor_BT1 = (weight_BT * is_picked_BT)[..., None].to(x_BTD.dtype)
        return x_BTD + (y_BTD - x_BTD) * factor_BT1, DepthsState(rows)

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of its stage, over as many tokens as there are."""
        yield from self.of[0].stage.layer_problems(x_BTD, flow)

    def _weight(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """r, (B, T), in float32 or float64."""
        assert self.router is not None
        return flow.project(x_BTD, self.router).to(compute_dtype(x_BTD))[..., 0]

    def _ruled(self, x_BTD: Tensor, passed_B: Tensor, flow: Flow) -> Tensor:
        """Whether the rule picks a token, (B, T). passed_B: how many of those before it has."""
        places_T = torch.arange(flow.position, flow.position + x_BTD.shape[1], device=x_BTD.device)
        most_T = 1 + (places_T.double() * self.plan.share + ROUNDING).long()
        return granted(flow.run(self.rule[0], x_BTD), most_T, passed_B, flow.position)

    def _best(self, weight_BT: Tensor, count: int, flow: Flow) -> Tensor:
        """Whether a token is among the best of its row, (B, T). Adds the loss that teaches it without the row."""
        best_BK = weight_BT.detach().topk(count, dim=1).indices
        is_picked_BT = (best_BK[..., None] == torch.arange(weight_BT.shape[1], device=weight_BT.device)).any(1)
        loss = F.binary_cross_entropy_with_logits(weight_BT, is_picked_BT.to(weight_BT.dtype))
        flow.add_loss("pick", loss, self.plan.pick_loss)
        return is_picked_BT

    def _tell(self, is_picked_BT: Tensor, flow: Flow) -> None:
        flow.tell("picked_share", is_picked_BT.float().mean())
