"""Routed mixers: each computes the tokens that it is sent, gathered into shorter rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.route.spec import RoutePlan
from evo.blocks.subsequence import Seen, Subsequence, extended
from evo.kernels.dispatch import KernelCall


@dataclass(frozen=True)
class RouteState(State):
    """What each mixer kept, by mixer and row."""

    mixers: tuple[tuple[Seen, ...], ...]


class Route(Block):
    """sum over a token's mixers i of p_i * f_i(the tokens that i is sent). The mixers are received built."""

    chooses = True
    router: nn.Parameter

    def __init__(self, plan: RoutePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.mixers = plan, tuple(children.values())

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        shares_BTE, is_sent_BTE = self._routes(x_BTD, flow)
        total_BTD, most = torch.zeros_like(x_BTD), x_BTD.shape[1] if flow.has_fixed_shapes else None
        for index, mixer in enumerate(self.mixers):
            sent = Subsequence.of(is_sent_BTE[..., index], most)
            y_BTD = sent.back(sent.flow(flow).run(mixer, sent.take(x_BTD)))
            total_BTD = total_BTD + y_BTD * shares_BTE[..., index, None].to(y_BTD.dtype)
        return total_BTD

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> RouteState:
        """No token yet."""
        del device, dtype
        return RouteState(((Seen(),) * batch,) * len(self.mixers))

    def extend(self, x_BTD: Tensor, state: RouteState, flow: Flow) -> tuple[Tensor, RouteState]:
        """The next T positions."""
        shares_BTE, is_sent_BTE = self._routes(x_BTD, flow)
        total_BTD, after = torch.zeros_like(x_BTD), list[tuple[Seen, ...]]()
        for index, (mixer, states) in enumerate(zip(self.mixers, state.mixers, strict=True)):
            y_BTD, states = extended(mixer, x_BTD, is_sent_BTE[..., index], states, flow)
            total_BTD = total_BTD + y_BTD * shares_BTE[..., index, None].to(y_BTD.dtype)
            after.append(states)
        return total_BTD, RouteState(tuple(after))

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of every mixer, over as many tokens as it may be sent."""
        return [problem for mixer in self.mixers for problem in mixer.problems(x_BTD, flow)]

    def _routes(self, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """The share of each mixer, 0 where a token is not sent there, and whether it is: (B, T, E). Adds the loss."""
        logits_BTE = flow.project(x_BTD, self.router).to(compute_dtype(x_BTD)) / self.plan.temperature
        shares_BTE = logits_BTE.softmax(-1)
        chosen_BTP = shares_BTE.detach().topk(self.plan.top, -1).indices
        count = len(self.mixers)
        is_sent_BTE = (chosen_BTP[..., None] == torch.arange(count, device=x_BTD.device)).any(-2)
        loads_E = is_sent_BTE.to(shares_BTE.dtype).mean((0, 1)) / self.plan.top
        if self.plan.losses:
            flow.add_loss("balance", count * (loads_E * shares_BTE.mean((0, 1))).sum(), self.plan.balance)
        if flow.figures is not None:
            flow.tell("route_balance_std", (loads_E * count).std(correction=0))
            flow.tell("route_utilization", (loads_E > 0).to(loads_E.dtype).mean())
        return shares_BTE * is_sent_BTE, is_sent_BTE
