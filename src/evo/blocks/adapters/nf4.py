"""Maps in four bits: the levels of a normal law, by blocks with a scale each (Dettmers et al. 2305.14314, QLoRA)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.adapters.spec import SUPER
from evo.blocks.nf4 import nearest, values

CLOSE = 0.1
"""A code of a scale is the largest that exceeds it by no more than this: so what was quantised is quantised to itself,
which the nearest code would not give for the smallest of them."""


class Packed(nn.Module):
    """A linear map, (out, in) or a stack of them, as 4-bit codes, two a byte, in blocks of `block` with a scale each.

    doubled: whether scales are kept in 8 bits, `SUPER` of them with a scale of their own.
    """

    codes: Tensor
    scales: Tensor
    super_scales: Tensor

    def __init__(self, shape: tuple[int, ...], block: int, doubled: bool) -> None:
        super().__init__()
        self.shape, self.block, self.doubled = shape, block, doubled
        blocks = -(-math.prod(shape) // block)
        kind = torch.uint8 if doubled else torch.float32
        self.register_buffer("codes", torch.zeros(blocks * block // 2, dtype=torch.uint8), persistent=False)
        self.register_buffer("scales", torch.zeros(blocks, dtype=kind), persistent=False)
        super_blocks = -(-blocks // SUPER) if doubled else 0
        self.register_buffer("super_scales", torch.zeros(super_blocks), persistent=False)

    @torch.no_grad()
    def fill(self, weight: Tensor) -> None:
        """Take a map, rounded."""
        flat = weight.detach().float().flatten()
        rows = F.pad(flat, (0, self.codes.numel() * 2 - flat.numel())).unflatten(0, (-1, self.block))
        largest = rows.abs().amax(1)
        if self.doubled:
            groups = F.pad(largest, (0, self.super_scales.numel() * SUPER - len(largest))).unflatten(0, (-1, SUPER))
            self.super_scales.copy_(groups.amax(1))
            shares = groups / self.super_scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None] * 255
            self.scales.copy_((shares + CLOSE).floor().flatten()[: len(largest)])
        else:
            self.scales.copy_(largest)
        shares = rows / self._scales(torch.float32).clamp_min(torch.finfo(torch.float32).tiny)[:, None]
        self.codes.copy_(nearest(shares.flatten()))

    def whole(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The map as it is kept, in a dtype."""
        levels = values(self.codes, 2 * self.codes.numel()).unflatten(0, (-1, self.block))
        flat = (levels * self._scales(torch.float32)[:, None]).flatten()[: math.prod(self.shape)]
        return flat.view(self.shape).to(dtype)

    def _scales(self, dtype: torch.dtype) -> Tensor:
        if not self.doubled:
            return self.scales.to(dtype)
        supers = self.super_scales.to(dtype).repeat_interleave(SUPER)[: len(self.scales)]
        return self.scales.to(dtype) / 255 * supers

    def project(self, x: Tensor) -> Tensor:
        """x W^T for a map (out, in); W is made for it, and once more for the gradient, and never kept."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return _Product.apply(x.to(dtype), self)  # pyright: ignore[reportReturnType]


class _Product(torch.autograd.Function):
    """x W^T, with dx = dy W alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed) -> Tensor:
        ctx.packed = packed
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, packed.whole(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (dy,) = gradients
        with torch.autocast(dy.device.type, enabled=False):
            return dy @ ctx.packed.whole(dy.dtype), None
