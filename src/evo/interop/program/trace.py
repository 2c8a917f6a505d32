"""An organism as a graph of torch's own operations, for sequences of one length in batches of any size."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler.organism import Organism
from evo.kernels.operators import inlined

ROWS = 3
"""How many rows the traced batch has: a number that no size in a model is likely to be equal to by itself."""


def trace(organism: Organism, length: int) -> ExportedProgram:
    """What a pass computes, from tokens (B, length) int64 to logits (B, length, V). The organism is of no use after.

    Raises:
        DiagnosticError: torch cannot trace one of its blocks (EVO655).
    """
    tokens_BT = torch.arange(ROWS * length).reshape(ROWS, length) % organism.plan.vocab
    try:
        return graph(organism, tokens_BT)
    except Exception as error:  # whatever a block did that has no place in a graph
        help = "`--to hf` writes weights without tracing, where the architecture has a class there"
        raise untraceable("trace", error, help) from error


def graph(module: nn.Module, rows: Tensor) -> ExportedProgram:
    """What a module of our blocks computes from inputs such as these (B, ...), for any B."""
    with torch.no_grad(), inlined(), quiet():
        return export(module.eval(), (rows,), dynamic_shapes=({0: Dim.AUTO},), strict=False)


def untraceable(what: str, error: BaseException, help: str) -> DiagnosticError:
    """What is raised where torch cannot do so with an organism, by the first line of its reason (EVO655)."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DiagnosticError([Diagnostic("EVO655", f"torch cannot {what} this organism: {first}", None, help)])


@contextmanager
def quiet() -> Iterator[None]:
    """Tracing tells of every guard that it adds; none of it is about the user's model."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
