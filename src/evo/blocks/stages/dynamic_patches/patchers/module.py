"""Patchers by rule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.dsl.spec import TOKENS


class Patcher(Block):
    """Says behind which tokens a patch may end, (B, T, D) -> (B, T) bool, by those up to each."""

    gives_vectors = False


class Every(Patcher):
    """Behind every token."""

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T)."""
        del flow
        return torch.ones_like(x_BTD[..., 0], dtype=torch.bool)


@dataclass(frozen=True)
class SpaceState(State):
    """Whether the latest byte was space-like, (B, 1) bool; false before the first."""

    was_space_B1: Tensor


class Space(Patcher):
    """Behind the first of space-like bytes in a row."""

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> SpaceState:
        """No byte yet."""
        del dtype
        return SpaceState(torch.zeros(batch, 1, dtype=torch.bool, device=device))

    def extend(self, x_BTD: Tensor, state: SpaceState, flow: Flow) -> tuple[Tensor, SpaceState]:
        """The next T bytes."""
        del x_BTD
        is_space_BT = is_space_like(flow.signals[TOKENS])
        before_BT = torch.cat((state.was_space_B1, is_space_BT[:, :-1]), dim=1)
        return is_space_BT & ~before_BT, SpaceState(is_space_BT[:, -1:])


def is_space_like(bytes_BT: Tensor) -> Tensor:
    """Whether each byte is no ASCII letter or digit, and does not go on with a UTF-8 sequence, (B, T) bool."""
    lower_BT = bytes_BT | 0x20
    is_letter_BT = (lower_BT >= ord("a")) & (lower_BT <= ord("z")) & (bytes_BT < 0x80)
    is_digit_BT = (bytes_BT >= ord("0")) & (bytes_BT <= ord("9"))
    goes_on_BT = (bytes_BT >= 0x80) & (bytes_BT < 0xC0)
    return ~(is_letter_BT | is_digit_BT | goes_on_BT)


def granted(wanted_BT: Tensor, most_T: Tensor, before_B: Tensor, position: int) -> Tensor:
    """Which of the wanted tokens there is room for, (B, T), the first of all among them.

    So many are granted up to t: e_t = min(e_(t-1) + wanted_t, most_t).

    before_B: how many were before the first of these tokens, which stands at `position`.
    """
    wanted_BT = torch.cat((wanted_BT[:, :1] | (position == 0), wanted_BT[:, 1:]), dim=1)
    sums_BT = wanted_BT.cumsum(1)
    # e_t unrolled: all that were wanted, but for those that found no room up to the tightest place so far
    spare_BT = torch.maximum((sums_BT - most_T).cummax(1).values, -before_B[:, None])
    return (sums_BT - spare_BT).diff(dim=1, prepend=before_B[:, None]) > 0
