"""One kernel call for many members of a population: what `torch.func.vmap` asks of an operator.

A `Fold` says along which axis of each tensor members may be laid one after another, so that one launch serves them all:
batches beside batches, or heads beside heads where heads have parameters of their own. What no fold fits is called once
a member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fold:
    """The axis of every input and of every output along which members lie side by side in one call.

    None stands for an input that all members share, and for one that is no tensor; trailing ones may be left out.
    """

    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]

    def fits(self, in_dims: Sequence[Any], inputs: Sequence[Any]) -> bool:
        """Whether every tensor that differs from member to member has an axis."""
        axes = (*self.inputs, *(None,) * (len(inputs) - len(self.inputs)))
        mapped = (isinstance(x, Tensor) and at is not None for x, at in zip(inputs, in_dims, strict=True))
        return all(axis is not None or not differs for axis, differs in zip(axes, mapped, strict=True))


Folds = Callable[..., Sequence[Fold]]
"""From the arguments of one member's call, the folds that would leave its results as they are, the best first."""


def no_folds(*inputs: Any) -> Sequence[Fold]:
    """Of an operator that takes one member at a time."""
    return ()


def folds(*found: Fold) -> Folds:
    """Of an operator whose results do not depend on which arguments are given."""
    return lambda *inputs: found


def row_folds(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Folds:
    """Of an operator on the rows of (..., D), each for itself, which needs an axis beside D."""
    fold = Fold(inputs, outputs)
    return lambda x, *others: (fold,) if x.ndim > 1 else ()


def over_members(
    call: Callable[..., Any], folds: Folds, members: int, in_dims: Sequence[Any], inputs: Sequence[Any]
) -> tuple[Any, Any]:
    """What `call` returns for each member, and along which axis of each result the members lie.

    in_dims: where the members lie in each input, None for inputs that are the same for all.
    """
    for fold in folds(*one_member(0, in_dims, inputs)):
        if fold.fits(in_dims, inputs):
            return _folded(call, fold, members, in_dims, inputs)
    results = [call(*one_member(member, in_dims, inputs)) for member in range(members)]
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0,) * len(results[0])


def one_member(member: int, in_dims: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The arguments of one member's call."""
    pairs = zip(inputs, in_dims, strict=True)
    return [x.select(at, member) if isinstance(x, Tensor) and at is not None else x for x, at in pairs]


def _folded(
    call: Callable[..., Any], fold: Fold, members: int, in_dims: Sequence[Any], inputs: Sequence[Any]
) -> tuple[Any, Any]:
    merged = list(inputs)
    for i, axis in enumerate(fold.inputs):
        if axis is not None and isinstance(inputs[i], Tensor):
            merged[i] = _side_by_side(inputs[i], in_dims[i], axis, members)
    found = call(*merged)
    if isinstance(found, Tensor):
        (axis,) = fold.outputs
        return _apart(found, axis, members), axis
    axes = [axis if x.ndim > axis else 0 for x, axis in zip(found, fold.outputs, strict=True)]
    return tuple(_apart(x, axis, members) for x, axis in zip(found, axes, strict=True)), tuple(axes)


def _side_by_side(x: Tensor, at: int | None, axis: int, members: int) -> Tensor:
    """The members of x, which lie along its dimension `at`, one after another along `axis` of what each of them is.

    What all have in common is copied, so that kernels which take a dense tensor are given one.
    """
    if at is None:
        sizes = [-1] * x.ndim
        sizes.insert(axis, members)
        return x.unsqueeze(axis).expand(sizes).flatten(axis, axis + 1).contiguous()
    return x.movedim(at, axis).flatten(axis, axis + 1)


def _apart(x: Tensor, axis: int, members: int) -> Tensor:
    """The inverse. A result left empty is empty for each member."""
    return x.unflatten(axis, (members, x.shape[axis] // members))
