"""A pool whose slots stand on several devices, each on that of its cell of behaviour space."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.pool.module import Pool
from evo.kernels.fused.channel_gains import living
from evo.slime.placement import placed


class Spread(nn.Module):
    """sum_p gain_p f_p(x), each f_p where `placed` has it; the slots of a device run as one over stacked weights.

    Inputs go out to the devices and sums come home, to where the gains are: what is sent is one activation each way a
    device, whatever the number of slots.

    Args:
        pool: its weights are copied.
        one: a built block of one slot; its own weights are not read.
        cells: the cell of behaviour space of each slot (`CVTArchive.cell_of`).
        devices: what torch calls them. Several names of one device, as `cpu:0` and `cpu:1`, are devices by themselves.
    """

    def __init__(self, pool: Pool, one: Block, cells: Mapping[int, int], devices: Sequence[str]) -> None:
        super().__init__()
        own = pool.slot_tensors({path: p.detach() for path, p in pool.named_parameters()})
        self.gain = nn.Parameter(pool.gain.detach().clone())
        self.slots = nn.ModuleList(_filled(one, weights) for weights in own)
        self.cells, self.by_device = dict(cells), dict[str, list[int]]()
        self.place(devices)

    def place(self, devices: Sequence[str], saved: Mapping[int, Mapping[str, Tensor]] | None = None) -> None:
        """Put every slot on the one of these devices that its cell belongs to.

        saved: weights by slot (an elite's, a checkpoint's) for those whose device is gone and cannot be read any more.
        Parameters stay the objects that an optimizer knows; its state moves with its next step or not at all.

        Raises:
            ValueError: no device, or slots that the cells do not name.
        """
        if self.cells.keys() != set(range(len(self.slots))):
            raise ValueError(f"cells of the slots {sorted(self.cells)}, and {len(self.slots)} slots")
        self.by_device = placed(self.cells, devices)
        for device, slots in self.by_device.items():
            for slot in slots:
                block = self.slots[slot]
                if saved is not None and slot in saved:
                    block.to_empty(device=device)
                    block.load_state_dict(saved[slot])
                block.to(device)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Sequences by themselves, (B, T, D) -> (B, T, D), on the device of x."""
        sums = [self._sum(x_BTD, device, slots) for device, slots in self.by_device.items() if slots]
        return torch.stack([part_BTD.to(x_BTD.device) for part_BTD in sums]).sum(0)

    def _sum(self, x_BTD: Tensor, device: str, slots: Sequence[int]) -> Tensor:
        """The share of some slots, on their device."""
        here_BTD, first = x_BTD.to(device, non_blocking=True), self.slots[slots[0]]
        own = [dict(self.slots[slot].named_parameters()) for slot in slots]
        weights_S = {path: torch.stack([weights[path] for weights in own]) for path in own[0]}

        def one(weights: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(first, weights, (here_BTD, Flow()))

        gains_S = living(self.gain)[list(slots)].to(device, here_BTD.dtype)
        return torch.einsum("s,sbtd->btd", gains_S, torch.func.vmap(one)(weights_S))


def _filled(one: Block, weights: Mapping[str, Tensor]) -> Block:
    """A block of its own with these weights."""
    block = copy.deepcopy(one)
    block.load_state_dict(weights)
    return block
