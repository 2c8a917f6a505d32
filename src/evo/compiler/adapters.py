"""Adapters taken out of an organism: merged into the maps that they stand beside."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evo.compiler.build import build
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import Document
from evo.dsl.tree import replaced


def merged(document: Document, weights: Mapping[str, Tensor]) -> tuple[Document, dict[str, Tensor]]:
    """The same function without adapters: a document and its weights by path; as they are where there are none."""
    if document.organism.adapters is None:
        return document, dict(weights)
    plain = replaced(document, {("organism", "adapters"): None})
    paths = resolve(plain.organism).weights
    found = merged_weights(build(resolve(document.organism), 0, weights=weights))
    return plain, {path: weight for path, weight in found.items() if path in paths}


@torch.no_grad()
def merged_weights(model: Organism) -> dict[str, Tensor]:
    """The weights of an organism by path, with what its adapters add in the maps that they stand beside."""
    found = held_weights(model)
    for path, block in model.named_blocks():
        for name, adapter in block.named_adapters().items():
            found[f"{path}.{name}"] = found[f"{path}.{name}"] + adapter.delta()
    return found


@torch.no_grad()
def held_weights(model: Organism) -> dict[str, Tensor]:
    """The weights of an organism by path, copies of none; those that adapters keep in another form are made of it."""
    found = {path: parameter.detach() for path, parameter in model.named_parameters()}
    for path, block in model.named_blocks():
        for name, adapter in block.named_adapters().items():
            if adapter.holds_map:
                found[f"{path}.{name}"] = adapter.whole(getattr(block, name))
    return found
