"""Checkpoints: one safetensors file with weights, optimizer state, and the document that made them. Never pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.files import write_atomic
from evo.blocks.companion import Companion
from evo.compiler.check import require_valid
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_yaml
from evo.dsl.document import Document, parse
from evo.training.optimizer import Optimizer

FORMAT = "evo-checkpoint-2"
HEAD = "evo"
"""The metadata key: JSON with all that is not a tensor."""
FILE = "checkpoint.safetensors"
"""What it is called in the folder of a training."""
MOST_STEPS = 10**8
"""What `train.steps` may be at most."""
HELP = "`evo train CFG --resume` goes on in the folder --out; a checkpoint from elsewhere stands in place of CFG"
MODEL, OPTIMIZER, COMPANION = "model.", "optimizer.", "companion."


@dataclass(frozen=True)
class Checkpoint:
    """A model on its way: the document, its weights by path, the number of steps taken, and the optimizer's state.

    optimizer: tensors by path and name. companion: what lives beside the steps keeps, by name. root: the folder that
    relative corpus paths start from.
    """

    document: Document
    weights: dict[str, Tensor]
    step: int
    steps: int
    corpus_digest: str
    optimizer: dict[str, dict[str, Tensor]] | None = None
    root: str = "."
    companion: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    tensors = {MODEL + name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    for weight, state in (checkpoint.optimizer or {}).items():
        for name, tensor in state.items():
            tensors[f"{OPTIMIZER}{weight}.{name}"] = tensor.detach().cpu().contiguous()
    tensors |= {COMPANION + name: t.detach().cpu().contiguous() for name, t in checkpoint.companion.items()}
    head = {
        "format": FORMAT,
        "document": to_yaml(checkpoint.document),
        "step": checkpoint.step,
        "steps": checkpoint.steps,
        "corpus_digest": checkpoint.corpus_digest,
        "root": checkpoint.root,
    }
    write_atomic(path, save(tensors, {HEAD: json.dumps(head)}))  # one key: several come in an order of their own


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint: of the file, or of the folder that a training left it in.

    Raises:
        DiagnosticError: not one, or damaged: also where weights are no finite float32 numbers of the shapes that its
            document plans, or steps are no counts (EVO602).
    """
    path = path / FILE if path.is_dir() else path
    if path.exists() and not path.is_file():
        raise _fault(path, "it is not a file")
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {}).get(HEAD, "{}"))
            if not isinstance(head, dict) or head.get("format") != FORMAT:
                raise _fault(path, "it was not written by `evo train`")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return _checkpoint(head, tensors)
    except (FileNotFoundError, NotADirectoryError):
        raise _fault(path, "there is no such file", HELP) from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _fault(path, f"{type(error).__name__}: {error}") from None


def _checkpoint(head: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    """The parts put together. Raises ValueError, KeyError, TypeError or AttributeError where they do not fit."""
    try:
        document = require_valid(parse(head["document"]))
    except DiagnosticError as error:
        raise ValueError(f"its document has faults: {error}") from None
    weights = {key.removeprefix(MODEL): value for key, value in tensors.items() if key.startswith(MODEL)}
    planned = {path: weight.shape for path, weight in resolve(document.organism).weights.items()}
    if {path: tuple(tensor.shape) for path, tensor in weights.items()} != planned:
        raise ValueError("its weights are not those of its document")
    for key, tensor in tensors.items():
        if key.startswith(MODEL) and tensor.dtype != torch.float32:
            raise ValueError(f"weight '{key.removeprefix(MODEL)}' is {tensor.dtype}, not float32")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"'{key}' holds numbers that are not finite")
    step, steps = _count(head, "step"), _count(head, "steps")
    if step > steps:
        raise ValueError(f"step {step} of {steps}")
    return Checkpoint(
        document=document,
        weights=weights,
        step=step,
        steps=steps,
        corpus_digest=str(head["corpus_digest"]),
        optimizer=_optimizer_state(tensors) or None,
        root=str(head["root"]),
        companion={key.removeprefix(COMPANION): t for key, t in tensors.items() if key.startswith(COMPANION)},
    )


def _count(head: dict[str, Any], name: str) -> int:
    value = head[name]
    if type(value) is not int or not 0 <= value <= MOST_STEPS:
        raise ValueError(f"its {name} is {str(value)[:40]}")
    return value


def restore_optimizer(optimizer: Optimizer, saved: dict[str, dict[str, Tensor]]) -> None:
    """Put saved state back into an optimizer made for the same model and settings. Raises DiagnosticError (EVO602)."""
    try:
        optimizer.load_state_dict(saved)
    except ValueError as error:
        raise DiagnosticError([Diagnostic("EVO602", f"the checkpoint cannot be resumed: {error}")]) from None


def restore_companion(companion: Companion | None, saved: dict[str, Tensor]) -> None:
    """Put saved state back into what lives beside the steps. Raises DiagnosticError (EVO602)."""
    if companion is None:
        return
    try:
        companion.load_state_dict(saved)
    except ValueError as error:
        raise DiagnosticError([Diagnostic("EVO602", f"the checkpoint cannot be resumed: {error}")]) from None


def _optimizer_state(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    state: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(OPTIMIZER):
            path, _, name = key.removeprefix(OPTIMIZER).rpartition(".")
            state.setdefault(path, {})[name] = tensor
    return state


def _fault(path: Path, reason: str, help: str | None = None) -> DiagnosticError:
    return DiagnosticError([Diagnostic("EVO602", f"{path} is not a checkpoint: {reason}", None, help)])
