"""Kolmogorov-Arnold feed-forwards against sums of functions written out edge by edge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, stage
from block_variants import plan as planned
from scipy.interpolate import BSpline
from test_scan_oracles import Weights, compare, ours
from torch import Tensor

from evo.blocks.kan.module import splines


def truncated_powers(x: Tensor, grid: int, degree: int, bound: float) -> Tensor:
    """B_n(x) = 1 / d! sum_i (-1)^i C(d + 1, i) max(u - n - i, 0)^d, u counted from the first knot in intervals."""
    u = (x + bound) * grid / (2 * bound) + degree
    terms = [
        [(-1) ** i * math.comb(degree + 1, i) * F.relu(u - n - i) ** degree for i in range(degree + 2)]
        for n in range(grid + degree)
    ]
    return torch.stack([sum(row, torch.zeros_like(x)) / math.factorial(degree) for row in terms], dim=-1)


def bells(x: Tensor, grid: int, bound: float) -> Tensor:
    """FastKAN's radial functions (2405.06721, eq. 7)."""
    centres = torch.linspace(-bound, bound, grid + 1, dtype=x.dtype)
    return torch.exp(-(((x[..., None] - centres) / (2 * bound / grid)) ** 2))


@pytest.mark.parametrize(
    "fields", [{}, {"degree": 2, "grid": 3, "bound": 1.0, "act": "gelu"}, {"basis": "gaussian", "grid": 7}]
)
def test_edges_are_functions(fields: dict[str, Any]):
    """Two layers of edges w act(x) + sum c_n B_n(x) (2404.19756, eqs. 2.5 and 2.10)."""
    grid, degree, bound = fields.get("grid", 5), fields.get("degree", 3), fields.get("bound", 2.0)
    act = F.gelu if "act" in fields else F.silu

    def layer(x: Tensor, weight: Tensor) -> Tensor:
        basis = bells(x, grid, bound) if "basis" in fields else truncated_powers(x, grid, degree, bound)
        edges = weight.unflatten(-1, (x.shape[-1], -1))  # (out, in, 1 + N)
        splined = torch.einsum("oin,btin->bto", edges[..., 1:], basis)
        return splined + act(x) @ edges[..., 0].T

    def theirs(x: Tensor, w: Weights) -> Tensor:
        return layer(layer(x, w["up"]), w["down"])

    compare(ours(0.2, kind="kan", hidden=12, **fields), theirs)


def test_what_the_functions_cost():
    """Besides the maps, a multiply and an add a step of the recursion, twice over and divided, for all nodes."""
    plan = block_of(planned([stage("s", {"kind": "convolution"}, ffn={"kind": "kan", "hidden": 12})]), "ffn")
    assert plan.flops == 2 * 2 * 16 * 12 * 9 + 6 * 3 * 8 * (16 + 12)


def test_splines_are_those_of_scipy():
    """On the grid and on its continuation, and 0 beyond; on the grid they sum to 1."""
    knots = 2.0 * (np.arange(-3, 9) * 2 / 5 - 1)
    x = np.linspace(-6, 6, 97)
    wanted = np.stack([BSpline.basis_element(knots[n : n + 5], extrapolate=False)(x) for n in range(8)], axis=-1)
    found = splines(torch.from_numpy(x), 5, 3, 2.0)
    torch.testing.assert_close(found, torch.from_numpy(np.nan_to_num(wanted)), rtol=1e-9, atol=1e-12)
    inside = (x > -2) & (x < 2)
    torch.testing.assert_close(found[torch.from_numpy(inside)].sum(-1), torch.ones(inside.sum(), dtype=torch.float64))
