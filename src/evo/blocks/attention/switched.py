"""Maps that each head of a token chooses among."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.blocks.experts.met import Met
from evo.blocks.flow import Flow
from evo.kernels.dispatch import KernelCall
from evo.kernels.grouped import plan as plan_grouped


def switched(
    x_BTD: Tensor,
    rows_BTHX: Tensor,
    router: Tensor,
    stack: Tensor,
    top: int,
    flow: Flow,
    backend: str,
    calls: list[KernelCall] | None = None,
) -> Tensor:
    """sum over the `top` best e of sigmoid(W_h x)_e times map (h, e) of the row of head h, (B, T, H, Y).

    stack: (H E, Y, X). calls: where the grouped product is noted instead of run.
    """
    heads, shape = rows_BTHX.shape[2], rows_BTHX.shape[:3]
    if calls is not None:
        calls.append(plan_grouped(rows_BTHX.new_empty(shape.numel() * top, rows_BTHX.shape[-1]), stack))
        return rows_BTHX.new_empty(*shape, stack.shape[1])
    scores_BTHE = torch.sigmoid(flow.project(x_BTD, router)).unflatten(-1, (heads, -1))
    order_BTHE = scores_BTHE.detach().sort(dim=-1, descending=True, stable=True).indices
    chosen_BTHP = order_BTHE[..., :top]
    first_H1 = torch.arange(heads, device=x_BTD.device)[:, None] * scores_BTHE.shape[-1]
    met = Met((chosen_BTHP + first_H1).flatten(), stack.shape[0], backend)
    y_RY = flow.grouped(met.groups).project(met.together(rows_BTHX.flatten(0, 2)), stack)
    shares_BTHP = scores_BTHE.gather(-1, chosen_BTHP)
    return met.summed(y_RY, shares_BTHP.flatten(0, 2)).unflatten(0, shape)
