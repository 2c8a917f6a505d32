"""A child's first weights from its parent's: copied where paths and shapes match, cut or grown where shapes changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evo.compiler.build import initial_weight
from evo.compiler.plan import Plan
from evo.dsl.plan import Weight


@dataclass(frozen=True)
class WeightTransfer:
    """Which weights came from the parent: whole, in part, or not at all; paths in the plan's order.

    values: how many numbers were copied. parameters: how many there are.
    """

    copied: tuple[str, ...]
    resized: tuple[str, ...]
    fresh: tuple[str, ...]
    values: int
    parameters: int

    @property
    def share(self) -> float:
        """The share of the child's parameters that came from the parent, in [0, 1]."""
        return self.values / self.parameters if self.parameters else 0.0


def transplant(plan: Plan, seed: int, parent: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], WeightTransfer]:
    """The first weights of `plan` given a parent's, by path, float32 on the CPU. Depends on nothing but its arguments.

    A weight whose path the parent has in the same shape is copied. In another shape of the same rank, the overlap is
    copied. What is new in it keeps its initial draw of `seed`, but new inputs of a linear map (of each in a stack) and
    new (older) taps of a convolution start at zero, so that growth leaves what the parent computed as it was (Chen et
    al. 2016, Net2Net); they learn from the first step on, as what they multiply is not zero. The last maps before the
    stream of blocks that the parent has not start at zero too: a new branch adds nothing before it has learned. All
    other weights are initial draws.
    """
    weights: dict[str, Tensor] = {}
    fates: dict[str, list[str]] = {"copied": [], "resized": [], "fresh": []}
    values, is_child = 0, any(path in parent for path in plan.weights)
    for path, weight in plan.weights.items():
        fate, tensor, count = _inherit(path, weight, seed, parent.get(path))
        if weight.writes_residual and path not in parent and is_child:
            tensor.zero_()
        weights[path] = tensor
        fates[fate].append(path)
        values += count
    report = WeightTransfer(
        **{fate: tuple(paths) for fate, paths in fates.items()}, values=values, parameters=plan.parameters
    )
    return weights, report


def _inherit(path: str, weight: Weight, seed: int, old: Tensor | None) -> tuple[str, Tensor, int]:
    """What becomes of one weight, its tensor, and how many of its numbers are the parent's."""
    if old is not None and tuple(old.shape) == weight.shape:
        return "copied", old.detach().to("cpu", torch.float32, copy=True), weight.count
    new = initial_weight(path, weight, seed)
    if old is None or old.ndim != new.ndim:
        return "fresh", new, 0
    here, there = _overlap(weight, tuple(old.shape))
    new[_reach(weight, here)] = 0.0
    new[here] = old.detach().to("cpu", torch.float32)[there]
    return "resized", new, new[here].numel()


def _overlap(weight: Weight, old: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part that both shapes have, in each: the first entries, but the latest taps."""
    here: list[slice] = []
    there: list[slice] = []
    for axis, new_size, old_size in zip(weight.axes, weight.shape, old, strict=True):
        size = min(new_size, old_size)
        here.append(slice(new_size - size, new_size) if axis == "taps" else slice(0, size))
        there.append(slice(old_size - size, old_size) if axis == "taps" else slice(0, size))
    return tuple(here), tuple(there)


def _reach(weight: Weight, overlap: tuple[slice, ...]) -> tuple[slice, ...]:
    """What the parent's outputs are made from: the overlap, and along it all inputs and all taps."""
    axes = zip(weight.axes, overlap, strict=True)
    return tuple(slice(None) if axis in ("in", "taps") else part for axis, part in axes)
