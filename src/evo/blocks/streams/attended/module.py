"""A softmax over what earlier sublayers gave."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.streams.attended.spec import AttendedEndPlan, AttendedPlan
from evo.blocks.streams.module import Connection, End, Read, weighed


class Attended(Connection):
    """Reads a sum of states, (B, T, N, D), by shares softmax_n(q norm(X_n)); what is written is a state more, or joins
    the latest."""

    query: nn.Parameter | None

    def __init__(self, plan: AttendedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.opens, self.eps = plan.opens, plan.eps

    def read(self, x_BTND: Tensor, flow: Flow) -> Read:
        del flow
        read_BTD = x_BTND[..., 0, :] if self.query is None else attended(x_BTND, self.query, self.eps)
        return read_BTD, x_BTND, None

    def written(self, kept_BTND: Tensor, gains_N: Tensor | None, y_BTD: Tensor, flow: Flow) -> Tensor:
        del gains_N, flow
        y_BT1D = y_BTD[..., None, :]
        if self.opens:
            return torch.cat((kept_BTND, y_BT1D), dim=-2)
        return torch.cat((kept_BTND[..., :-1, :], kept_BTND[..., -1:, :] + y_BT1D), dim=-2)


class AttendedEnd(End):
    """The sum of the states of all sublayers."""

    query: nn.Parameter

    def __init__(self, plan: AttendedEndPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.eps = plan.eps

    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        del flow
        return attended(x_BTND, self.query, self.eps)


def attended(x_BTND: Tensor, query_D: Tensor, eps: float) -> Tensor:
    """sum_n softmax_n(q norm(X_n)) X_n."""
    wide_BTND = x_BTND.to(compute_dtype(x_BTND))
    logits_BTN = (F.rms_norm(wide_BTND, wide_BTND.shape[-1:], None, eps) * query_D).sum(-1)
    return weighed(x_BTND, logits_BTN.softmax(-1))
