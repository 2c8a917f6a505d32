"""Mutants of a document, and training it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evo.api.documents import File, Source, document_of, holds_tensors
from evo.dsl.document import Document
from evo.evolution.mutate import Child, mutants
from evo.evolution.onward import begun, started
from evo.evolution.rundir import root_of
from evo.training.loop import Progress
from evo.training.run import TrainingRun, TrainResult


def mutate(source: Source, count: int = 1, seed: int = 0, mutations: int = 2) -> list[Child]:
    """Children of a document on paper, untrained: each valid, new, and another network or training than its parent.

    Args:
        count: how many.
        seed: of every draw; the same gives the same children.
        mutations: the most that a child receives.

    Returns:
        Children, each with its `document`, the `patch` that makes it of the parent, and its `operators`.

    Raises:
        DiagnosticError: as `load`; so many different children are not to be found (EVO620).

    >>> children = mutate("examples/first.yaml", count=3, seed=1)
    >>> len({child.hash for child in children})
    3
    >>> from evo import apply, load
    >>> apply(children[0].patch, "examples/first.yaml") == children[0].document
    True
    """
    return list(mutants(document_of(source), count, seed, mutations))


def train(
    source: Source,
    out: File,
    *,
    start: File | None = None,
    steps: int | None = None,
    root: File | None = None,
    device: str = "auto",
    kernels: str = "auto",
    threads: int | None = None,
    resume: bool = False,
    save_every: int = 500,
    on_step: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train an organism on its task: what `evo train` does.

    Leaves checkpoint.safetensors, which `load` and `build` read, and metrics.jsonl in `out`.

    Args:
        source: a document, the file of one, or a checkpoint or variant's snapshot to go on from.
        out: the folder.
        start: a checkpoint or a variant's snapshot whose weights the organism starts with, as far as names and shapes
            are alike; adapters merged.
        steps: of the optimizer, in all; the document's own if left out.
        root: the folder that relative corpus paths start from; the file's, or this one for a document.
        resume: go on from the checkpoint in `out`.
        on_step: is told of every step: its loss, rate and speed.

    Returns:
        The end of it: `scores` on held-out data by name, `primary`, `train_loss`, `checkpoint`.

    Raises:
        DiagnosticError: as `load`; no such corpus (EVO500) or device (EVO510); a checkpoint that is in the way
            (EVO601); a loss that diverges (EVO521).
    """
    folder = Path(out)
    if isinstance(source, Document):
        document, origin = source, Path(root or ".")
    elif holds_tensors(source):
        document, origin = begun(Path(source), folder)
        resume = True
    else:
        document, origin = document_of(source), Path(root) if root is not None else root_of(Path(source))
    weights = None if start is None or resume else started(document, Path(start)).weights
    run = TrainingRun.open(
        document,
        origin,
        folder,
        device,
        kernels=kernels,
        steps=steps,
        weights=weights,
        resume=resume,
        threads=threads,
    )
    return run.carry_out(on_step, save_every)
