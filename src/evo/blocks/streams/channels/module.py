"""Residual streams whose channels are read by gates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.streams.channels.spec import ChannelsPlan
from evo.blocks.streams.module import Connection, End, Read, normed


class Channels(Connection):
    """Qwen4-Exp's gated residual: x = mean_n sigmoid(U silu(D n))_n n_n, n the normed streams side by side."""

    down: nn.Parameter
    up: nn.Parameter
    write: nn.Parameter

    def __init__(self, plan: ChannelsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.magnitude = plan.magnitude

    def read(self, x_BTND: Tensor, flow: Flow) -> Read:
        normed_BTND = normed(self, x_BTND, flow)
        gains_BTN = torch.sigmoid(flow.project(normed_BTND.flatten(-2), self.write))
        return gated_mean(normed_BTND, self.down, self.up, flow), x_BTND, self.magnitude * gains_BTN


class ChannelsEnd(End):
    """The same mean."""

    down: nn.Parameter
    up: nn.Parameter

    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        return gated_mean(normed(self, x_BTND, flow), self.down, self.up, flow)


def gated_mean(x_BTND: Tensor, down: Tensor, up: Tensor, flow: Flow) -> Tensor:
    """mean_n of sigmoid(U silu(D x))_n x_n, x all streams side by side: (B, T, N, D) -> (B, T, D)."""
    narrow_BTR = F.silu(flow.project(x_BTND.flatten(-2), down))
    gates_BTND = torch.sigmoid(flow.project(narrow_BTR, up)).unflatten(-1, x_BTND.shape[-2:])
    return (gates_BTND * x_BTND).mean(-2)
