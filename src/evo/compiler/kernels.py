"""Which kernels a plan would run on, layer by layer, and why not others. Nothing is computed: shapes only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.compiler.build import make
from evo.compiler.organism import Organism
from evo.compiler.plan import Plan
from evo.kernels.dispatch import AUTO, BackendError, choose
from evo.kernels.fused import CROSS_ENTROPY, EMBED
from evo.kernels.fused.support import REFERENCE, FusedCall
from evo.kernels.plain import plain_call, plain_table
from evo.kernels.tables import table_of

EVERYWHERE = "everywhere"
"""Stands for the layer of what is decided once for all."""


@dataclass(frozen=True)
class KernelChoice:
    """The backend of one kernel call. `rejected`: each backend that stood before it, with its reasons."""

    layer: str
    family: str
    backend: str
    rejected: dict[str, tuple[str, ...]]


def kernel_choices(
    plan: Plan, *, device: str, dtype: str, batch: int, tokens: int, requested: str = AUTO
) -> list[KernelChoice]:
    """What training this plan on (batch, tokens) would run on, call by call; the device need not be here.

    Equal calls of a layer are listed once.
    dtype: `float32`, `bfloat16`, ... of the activations.

    Raises:
        DiagnosticError: a backend asked for by name cannot run some layer (EVO511).
    """
    organism = Organism(plan, make).to("meta")
    x_BTD, flow = torch.empty(batch, tokens, plan.width, device="meta"), Flow()
    stages = [organism.stages[stage.name] for stage in plan.stages]
    parts = stages if organism.ahead is None else [*stages, organism.ahead]
    posed_by = (row for part in parts for row in part.layer_problems(x_BTD, flow))
    asks = [(path, table_of(call), call) for path, calls in posed_by for call in dict.fromkeys(calls)]
    for _, block in organism.named_blocks():
        tables = [plain_table(name, block.forward) for name in block.in_torch]
        asks += [(block.path, table, plain_call(table, x_BTD)) for table in tables]
    found: list[KernelChoice] = []
    for path, table, call in asks:
        try:
            choice = choose(table, replace(call, device=device, dtype=dtype), requested)
        except BackendError as error:
            help = "leave --kernels out, or choose another backend for these layers"
            raise DiagnosticError([Diagnostic("EVO511", f"{path}: {error}", None, help)]) from None
        found.append(KernelChoice(path, call.family, choice.backend.name, dict(choice.rejected)))
    asked = requested if requested == REFERENCE else AUTO
    return [*found, *_fused_choices(organism, device, dtype, asked)]


def _fused_choices(organism: Organism, device: str, dtype: str, requested: str) -> Iterator[KernelChoice]:
    """What the fused operations run on, each once: they are decided by device and dtype alone."""
    used = [table for _, block in organism.named_blocks() for table in block.fused]
    for table in dict.fromkeys((EMBED, *used, CROSS_ENTROPY)):
        choice = choose(table, FusedCall(family=table.family, device=device, dtype=dtype), requested)
        yield KernelChoice(EVERYWHERE, table.family, choice.backend.name, dict(choice.rejected))


def dtypes_on(device: str) -> tuple[str, ...]:
    """The dtypes of activations that training uses there: bf16 autocast on CUDA, and float32 for probes."""
    return ("bfloat16", "float32") if device == "cuda" else ("float32",)


def use_kernels(organism: Organism, requested: str, *, batch: int, tokens: int) -> None:
    """Make every mixer of an organism run on the backend asked for; `reference` is for all that is not a mixer too.

    Raises:
        DiagnosticError: it cannot run some layer on the organism's device at that size (EVO511).
    """
    if requested == AUTO:
        return
    device = next(organism.parameters()).device.type
    for dtype in dtypes_on(device):
        kernel_choices(organism.plan, device=device, dtype=dtype, batch=batch, tokens=tokens, requested=requested)
    for module in organism.modules():
        if not isinstance(module, Block | Organism):
            continue
        poses = isinstance(module, Block) and type(module).problems is not Block.problems
        if poses or requested == REFERENCE:
            module.backend = requested
