"""Organisms as torch modules."""

from __future__ import annotations

from pathlib import Path

import torch

from evo.api.documents import Source, document_of, holds_tensors
from evo.base.rundirs import exact_or
from evo.compiler import build as compiler
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import Document
from evo.training.checkpoint import load_checkpoint


def build(source: Source, seed: int | None = None, device: torch.device | str = "cpu") -> Organism:
    """The organism as a torch module in float32: tokens (B, T) int64 -> logits (B, T, V).

    Args:
        source: a document or a file of one gives initial weights; a checkpoint gives the trained ones.
        seed: of the initial weights; the document's own if left out. A checkpoint has no use for one.
        device: where it stands.

    Raises:
        DiagnosticError: as `load`.

    >>> import torch
    >>> model = build("examples/first.yaml", seed=1)
    >>> tokens = torch.randint(256, (2, 16))
    >>> model(tokens).shape
    torch.Size([2, 16, 256])
    >>> model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    """
    if not isinstance(source, Document) and holds_tensors(source):
        checkpoint = load_checkpoint(exact_or(Path(source)))
        return compiler.build(resolve(checkpoint.document.organism), 0, device, checkpoint.weights)
    document = document_of(source)
    return compiler.build(resolve(document.organism), document.train.seed if seed is None else seed, device)
