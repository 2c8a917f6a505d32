"""Adapters as they meet the inputs of their maps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evo.blocks.adapters.nf4 import Packed
from evo.blocks.adapters.spec import LoraPlan, SingularGainsPlan
from evo.blocks.base import Adapter, Block
from evo.blocks.flow import Project, projected_as
from evo.kernels.grouped import Groups


class Adapted:
    """A `Project` in which adapters stand beside the maps that have one."""

    def __init__(self, inner: Project, adapters: Mapping[Tensor, Adapter]) -> None:
        self.inner, self.adapters = inner, adapters

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
        adapter = self.adapters.get(weight)
        if adapter is None:
            return self.inner(x, weight, bias, groups)
        y = adapter.base(self.inner, x, weight, bias, groups)
        return y + adapter.project(self.inner, x, groups)

    def recast(self, x: Tensor, weight: Tensor, form: Tensor, bias: Tensor | None, groups: Groups | None) -> Tensor:
        """See `RecastingProject`: what an adapter adds is beside whatever stands for the map."""
        y = projected_as(self.inner, x, weight, form, bias, groups)
        adapter = self.adapters.get(weight)
        return y if adapter is None else y + adapter.project(self.inner, x, groups)


class Lora(Adapter):
    """scale * up (down x)."""

    down: nn.Parameter
    up: nn.Parameter

    def __init__(self, plan: LoraPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.scale = plan.scale
        self.packed = None if plan.block is None else Packed(plan.shape, plan.block, plan.doubled)
        self.holds_map = self.packed is not None

    def begin(self, weight: Tensor) -> None:
        if self.packed is not None:
            self.packed.fill(weight)

    def whole(self, weight: Tensor) -> Tensor:
        return weight if self.packed is None else self.packed.whole()

    def base(self, inner: Project, x: Tensor, weight: Tensor, bias: Tensor | None, groups: Groups | None) -> Tensor:
        if self.packed is None:
            return inner(x, weight, bias, groups)
        if groups is not None or weight.ndim > 2:
            return inner(x, self.packed.whole(x.dtype), bias, groups)
        y = self.packed.project(x)
        return y if bias is None else y + bias

    def delta(self) -> Tensor:
        return self.scale * (self.up @ self.down)

    def project(self, inner: Project, x: Tensor, groups: Groups | None) -> Tensor:
        return inner(inner(x, self.down, None, groups) * self.scale, self.up, None, groups)


class SingularGains(Adapter):
    """U diag((z - 1) * s) V^T x; z is the gains, over their mean weighted by s where the sum of s z is kept."""

    gains: nn.Parameter
    left: Tensor
    values: Tensor
    right: Tensor

    def __init__(self, plan: SingularGainsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.keeps_sum = plan.keeps_sum
        *stack, rank = self.gains.shape
        shapes = {"left": (plan.rows, rank), "values": (rank,), "right": (rank, plan.columns)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(*stack, *shape), persistent=False)

    def begin(self, weight: Tensor) -> None:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        self.left.copy_(left)
        self.values.copy_(values)
        self.right.copy_(right)

    def delta(self) -> Tensor:
        return self._changed() @ self.right

    def project(self, inner: Project, x: Tensor, groups: Groups | None) -> Tensor:
        return inner(inner(x, self.right, None, groups), self._changed(), None, groups)

    def _changed(self) -> Tensor:
        """U diag((z - 1) * s)."""
        gains = self.gains
        if self.keeps_sum:
            weighed = (self.values * gains).sum(-1, keepdim=True)
            weighed = torch.where(weighed == 0, 1.0, weighed)  # of a map that is zero, and stays so
            gains = gains * (self.values.sum(-1, keepdim=True) / weighed)
        return self.left * (self.values * (gains - 1))[..., None, :]
