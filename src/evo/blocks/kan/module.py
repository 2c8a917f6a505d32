"""Kolmogorov-Arnold feed-forwards; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.kan.spec import KanPlan
from evo.kernels.fused import ACTS


def splines(x: Tensor, grid: int, degree: int, bound: float) -> Tensor:
    """B-splines on equal intervals, (...) -> (..., grid + degree), by the recursion of Cox and de Boor."""
    width = 2 * bound / grid
    places = torch.arange(grid + 2 * degree, device=x.device, dtype=x.dtype)
    at = (x[..., None] + bound) / width + degree - places  # in intervals, from the first knot of each
    found = ((at >= 0) & (at < 1)).to(x.dtype)
    for d in range(1, degree + 1):
        rising, falling = at[..., :-d], (d + 1) - at[..., :-d]
        found = (rising * found[..., :-1] + falling * found[..., 1:]) / d
    return found


def gaussians(x: Tensor, grid: int, bound: float) -> Tensor:
    """exp(-((x - p) / h)²) at the ends p of intervals of width h, (...) -> (..., grid + 1)."""
    places = torch.arange(grid + 1, device=x.device, dtype=x.dtype)
    return (-((x[..., None] + bound) / (2 * bound / grid) - places).square()).exp()


class Kan(Block):
    """down(edges(up(edges(x)))), edges the activation and the basis of every channel."""

    in_torch = ("splines",)

    up: nn.Parameter
    down: nn.Parameter

    def __init__(self, plan: KanPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        return flow.project(self._edges(flow.project(self._edges(x_BTD), self.up)), self.down)

    def _edges(self, x: Tensor) -> Tensor:
        """The activation of each channel and then its functions, (..., C) -> (..., C (1 + N))."""
        plan, wide = self.plan, x.to(compute_dtype(x))
        if plan.basis == "spline":
            basis = splines(wide, plan.grid, plan.degree, plan.bound)
        else:
            basis = gaussians(wide, plan.grid, plan.bound)
        return torch.cat((ACTS[plan.act](wide)[..., None], basis), dim=-1).flatten(-2).to(x.dtype)
