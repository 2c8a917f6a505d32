"""What a candidate starts from: its parents' weights under the names that they have in it."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.compiler.plan import Plan
from evo.compiler.transplant import WeightTransfer, transplant
from evo.dsl.document import Document
from evo.dsl.plan import Weight
from evo.evolution.operators.base import NOBODY, WeightSources, entry


def starting_weights(
    plan: Plan, document: Document, parents: list[dict[str, Tensor]], origins: WeightSources
) -> tuple[dict[str, Tensor], WeightTransfer]:
    """What a candidate starts from: its parents' weights where paths and shapes allow, fresh draws elsewhere."""
    found = {path: _origin(path, weight, parents, origins) for path, weight in plan.weights.items()} if parents else {}
    return transplant(plan, document.train.seed, {path: t for path, t in found.items() if t is not None})


def _origin(path: str, weight: Weight, parents: list[dict[str, Tensor]], origins: WeightSources) -> Tensor | None:
    """The parents' tensor for a path: by the rows of its entries, by those of the longest prefix, or parent 0's own.

    Several rows of one prefix, as crossover writes them, stand for the mean of what fits (Wortsman et al. 2022, model
    soups); where nothing does, for the first there is.
    """
    entries = {index: row for index in range(weight.shape[0]) for row in origins if row[0] == entry(path, index)}
    if entries:
        return _stacked(weight, entries, parents)
    renamed = [row for row in origins if path.startswith(row[0])]
    if not renamed:
        return parents[0].get(path)
    longest = max(len(prefix) for prefix, _, _ in renamed)
    rows = [(parent, source + path[longest:]) for prefix, parent, source in renamed if len(prefix) == longest]
    found = [tensor for parent, place in rows if (tensor := parents[parent].get(place)) is not None]
    fitting = [tensor for tensor in found if tuple(tensor.shape) == weight.shape]
    if len(fitting) > 1:
        return torch.stack([tensor.detach().to("cpu", torch.float32) for tensor in fitting]).mean(0)
    return next(iter(fitting or found), None)


def _stacked(weight: Weight, entries: dict[int, tuple[str, int, str]], parents: list[dict[str, Tensor]]) -> Tensor:
    """A stack of gains from the entries that have rows; the others begin as the weight's law says.

    The gain of what is alone stands nowhere, and is 1.
    """
    shape = list(weight.shape[1:])
    rows = [torch.full(shape, weight.init.a) for _ in range(weight.shape[0])]
    for index, (_, parent, source) in entries.items():
        stack, _, place = source.rpartition("[")
        if parent == NOBODY:
            rows[index] = torch.zeros(shape)
            continue
        old, at = parents[parent].get(stack), int(place.rstrip("]"))
        if old is None:
            rows[index] = torch.ones(shape)
        elif at < len(old) and list(old.shape[1:]) == shape:
            rows[index] = old[at].detach().to("cpu", torch.float32)
    return torch.stack(rows)
