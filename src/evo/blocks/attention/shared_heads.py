"""How much each head of a token counts."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.blocks.attention.head_shares import HeadSharesSpec
from evo.blocks.experts.chooser import Chooser
from evo.blocks.flow import Flow


def head_shares(
    x_BTD: Tensor,
    spec: HeadSharesSpec,
    chooser: Chooser,
    shared_SD: Tensor | None,
    kinds_2D: Tensor | None,
    flow: Flow,
) -> Tensor:
    """The share of each head, (B, T, H): a_1 softmax(W_s x) of the shared ones, and a_2 the router's score of those
    that are chosen, a = softmax(W_a x) (Jin et al. 2410.11842, eqs. 5 to 7)."""
    routes = chooser.chosen(x_BTD, flow)
    zeros_BTE = routes.shares_BTP.new_zeros(*x_BTD.shape[:2], chooser.plan.count)
    chosen_BTE = zeros_BTE.scatter(-1, routes.chosen_BTP, routes.shares_BTP)
    if spec.even:
        chosen_BTE = chosen_BTE * spec.top
    if kinds_2D is None:
        return chosen_BTE
    shared_BTS = chosen_BTE.new_ones(*x_BTD.shape[:2], 1)
    if shared_SD is not None:
        shared_BTS = flow.project(x_BTD, shared_SD).to(chosen_BTE.dtype).softmax(-1)
    kinds_BT2 = flow.project(x_BTD, kinds_2D).to(chosen_BTE.dtype).softmax(-1)
    if spec.even:
        shared_BTS, kinds_BT2 = shared_BTS * spec.shared, kinds_BT2 * 2.0
    return torch.cat((kinds_BT2[..., :1] * shared_BTS, kinds_BT2[..., 1:] * chosen_BTE), dim=-1)
