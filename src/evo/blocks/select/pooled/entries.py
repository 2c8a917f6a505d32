"""Entries: one vector for each block of tokens, in parallel and as blocks fill up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, Position, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.select.pooled.spec import EntriesPlan


@dataclass(frozen=True)
class EntriesState(State):
    """What blocks that have begun are so far.

    entries_BCX: one for each of them; that of one under way is made of its tokens so far, and nobody meets it.
    past_BPY: what entries are made of at the latest P tokens, zeros where there is none: all that later ones need.
    """

    entries_BCX: Tensor
    past_BPY: Tensor


class Entries(Block):
    """sum_j softmax_j(W_z x_j + b_j) * W_c x_j by channel over the tokens j of a block (DeepSeek-V4, eq. 9 to 12, 20 to
    23), or their mean. Tokens of another document than the block's last one have no part in it."""

    gives_vectors = False

    maps: nn.Parameter | None
    gate: nn.Parameter | None
    places: nn.Parameter | None

    def __init__(self, plan: EntriesPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.size, self.width = plan, plan.size, plan.width
        self.reach = 2 * plan.size if plan.overlap else plan.size

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D), or what is pooled behind it, (B, T, D + X) -> those of all blocks that have begun, (B, C, X)."""
        raw_BTY = self._raw(x_BTD, flow)
        return self._pooled(F.pad(raw_BTY, (0, 0, self.reach - 1, 0)), x_BTD.shape[1], flow)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> EntriesState:
        """No token."""
        kept = sum(weight.shape[0] for weight in (self.maps, self.gate) if weight is not None)
        kept += 0 if self.plan.is_own else self.width
        entries = torch.empty(batch, 0, self.width, device=device, dtype=dtype)
        return EntriesState(entries, torch.zeros(batch, self.reach - 1, kept, device=device, dtype=dtype))

    def extend(self, x_BTD: Tensor, state: EntriesState, flow: Flow) -> tuple[Tensor, EntriesState]:
        """Those of all blocks that have begun when T more tokens are there."""
        raw_BLY = torch.cat((state.past_BPY, self._raw(x_BTD, flow)), dim=1)
        new_BCX = self._pooled(raw_BLY, x_BTD.shape[1], flow)
        entries_BCX = torch.cat((state.entries_BCX[:, : flow.position // self.size], new_BCX), dim=1)
        return entries_BCX, EntriesState(entries_BCX, raw_BLY[:, x_BTD.shape[1] :])

    def _raw(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What is pooled and the logits of its weights side by side, of each token, (B, T, Y)."""
        if self.maps is None:
            stream_BTD, made_BTZ = x_BTD.split((x_BTD.shape[-1] - self.width, self.width), dim=-1)
        else:
            stream_BTD, made_BTZ = x_BTD, flow.project(x_BTD, self.maps)
        return made_BTZ if self.gate is None else torch.cat((made_BTZ, flow.project(stream_BTD, self.gate)), dim=-1)

    def _pooled(self, raw_BLY: Tensor, new: int, flow: Flow) -> Tensor:
        """The entries of the blocks that the latest `new` tokens belong to; raw begins reach - 1 tokens before them."""
        first, end = flow.position // self.size, flow.position + new
        blocks = -(-end // self.size) - first
        begin = (first + 1) * self.size - self.reach  # the place of the first token that the first of them reads
        start = flow.position - (self.reach - 1)
        missing = (first + blocks) * self.size - end
        windows_BCWY = self._windows(F.pad(raw_BLY[:, begin - start :], (0, 0, 0, missing)))
        seen_BCW = self._seen(blocks, begin, end, flow, raw_BLY.device)
        series = 2 if self.plan.overlap else 1
        pooled = self._series(windows_BCWY[..., : windows_BCWY.shape[-1] - self._logits])
        if self.gate is None or self.places is None:
            weights = seen_BCW[..., None].to(pooled.dtype)
            weights = weights / weights.sum(2, keepdim=True)
        else:
            logits = self._series(windows_BCWY[..., -self._logits :]).to(compute_dtype(raw_BLY))
            bias_WX = torch.cat(self.places.unflatten(-1, (series, self.width)).unbind(1))
            logits = (logits + bias_WX).masked_fill(~seen_BCW[..., None], -torch.inf)
            weights = logits.softmax(2).to(pooled.dtype)
        return self._placed((weights * pooled).sum(2), first, flow)

    def _windows(self, x_BSY: Tensor) -> Tensor:
        """What each block reads, (B, C, W, Y): its own tokens, and those of the block before if they overlap."""
        own = x_BSY[:, self.reach - self.size :].unflatten(1, (-1, self.size))
        if not self.plan.overlap:
            return own
        return torch.cat((x_BSY[:, : -self.size].unflatten(1, (-1, self.size)), own), dim=2)

    @property
    def _logits(self) -> int:
        """How many of what is kept of a token are logits of weights."""
        return 0 if self.gate is None else self.gate.shape[0]

    def _series(self, x_BCWZ: Tensor) -> Tensor:
        """Of two series of maps, the first of tokens of the block before, the second of the block's own."""
        if x_BCWZ.shape[-1] == self.width:
            return x_BCWZ
        before, own = x_BCWZ[:, :, : self.size, : self.width], x_BCWZ[:, :, self.size :, self.width :]
        return torch.cat((before, own), dim=2)

    def _seen(self, blocks: int, begin: int, end: int, flow: Flow, device: torch.device) -> Tensor:
        """Which places of each window hold a token of the same document as the block's last one, (1 or B, C, W)."""
        places_C = begin + torch.arange(blocks, device=device) * self.size
        places_CW = places_C[:, None] + torch.arange(self.reach, device=device)
        there_CW = (places_CW >= 0) & (places_CW < end)
        if flow.segments_BT is None:
            return there_CW[None]
        of_BCW = flow.segments_BT[:, places_CW.clamp(0, end - 1)]
        return there_CW & (of_BCW == of_BCW[..., -1:])

    def _placed(self, entries_BCX: Tensor, first: int, flow: Flow) -> Tensor:
        """Normed, and turned as tokens that stand where their blocks begin."""
        if not self.plan.is_own:
            return entries_BCX
        norm, position = self.child("norm"), self.child("position")
        assert isinstance(norm, Norm)
        assert isinstance(position, Position)
        keys, values = self.plan.groups * self.plan.key_dim, entries_BCX[..., self.plan.groups * self.plan.key_dim :]
        keys_BCGK = norm(entries_BCX[..., :keys].unflatten(-1, (self.plan.groups, -1)), flow)
        spread = keys_BCGK.repeat_interleave(self.size, dim=1)
        turned_BCGK = position.rotate(spread, spread, first * self.size)[1][:, :: self.size]
        return torch.cat((turned_BCGK.flatten(-2), values), dim=-1)
