"""The tensors beside a configuration as a checkpoint of an organism."""

from __future__ import annotations

from pathlib import Path

import torch

from evo.compiler.resolve import resolve
from evo.interop.document import Imported
from evo.interop.weights import read_checkpoint, take
from evo.training.checkpoint import Checkpoint, save_checkpoint


def import_weights(imported: Imported, folder: Path, out: Path) -> None:
    """Write the weights of a folder's safetensors, in float32, as a checkpoint at step 0.

    Raises:
        DiagnosticError: a tensor is not there or of another size (EVO653).
    """
    found = take(resolve(imported.document.organism), imported.weights, read_checkpoint(folder))
    weights = {path: tensor.to(torch.float32) for path, tensor in found.items()}
    save_checkpoint(out, Checkpoint(imported.document, weights, 0, imported.document.train.steps, ""))
