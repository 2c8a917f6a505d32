"""A child's first weights from its parent's: copied where paths and shapes match, cut or grown where shapes changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evo.compiler.build import initial_weight
from evo.compiler.plan import Plan
from evo.dsl.plan import Use, Weight


@dataclass(frozen=True)
class Inheritance:
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


def transplant(plan: Plan, seed: int, parent: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Inheritance]:
    """The first weights of `plan` given a parent's, by path, float32 on the CPU. Depends on nothing but its arguments.

    A weight whose path the parent has in the same shape is copied. In another shape of the same rank, the overlap is
    copied. What is new in it keeps its initial draw of `seed`, but new inputs of a linear map and new (older) taps of a
    convolution start at zero, so that growth leaves what the parent computed as it was (Chen et al. 2016, Net2Net);
    they learn from the first step on, as what they multiply is not zero. All other weights are initial draws.
    """
    weights: dict[str, Tensor] = {}
    fates: dict[str, list[str]] = {"copied": [], "resized": [], "fresh": []}
    values = 0
    for path, weight in plan.weights.items():
        fate, tensor, count = _inherit(path, weight, seed, parent.get(path))
        weights[path] = tensor
        fates[fate].append(path)
        values += count
    report = Inheritance(
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
    here, there = _overlap(weight.use, tuple(new.shape), tuple(old.shape))
    if weight.use in ("linear", "taps"):
        new[here[0]] = 0.0
    new[here] = old.detach().to("cpu", torch.float32)[there]
    return "resized", new, new[here].numel()


def _overlap(use: Use, new: tuple[int, ...], old: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part that both shapes have, in each: the first entries, but the latest taps."""
    sizes = [min(a, b) for a, b in zip(new, old, strict=True)]
    here, there = [slice(0, size) for size in sizes], [slice(0, size) for size in sizes]
    if use == "taps":
        here[-1], there[-1] = slice(new[-1] - sizes[-1], new[-1]), slice(old[-1] - sizes[-1], old[-1])
    return tuple(here), tuple(there)
