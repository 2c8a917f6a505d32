"""The tensors beside a configuration as a checkpoint of an organism, and back."""

from __future__ import annotations

from pathlib import Path

import torch

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.files import write_atomic
from evo.compiler.adapters import merged
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_data
from evo.interop.config import read_config
from evo.interop.document import Imported, imported_from
from evo.interop.gguf_file import SUFFIX, gguf_tensors
from evo.interop.published import published
from evo.interop.weights import put, read_checkpoint, take
from evo.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def import_weights(imported: Imported, path: Path, out: Path) -> None:
    """Write the weights of a folder's safetensors, or of a GGUF file, in float32, as a checkpoint at step 0.

    Raises:
        DiagnosticError: a tensor is not there or of another size (EVO653).
    """
    if path.suffix == SUFFIX:
        theirs = gguf_tensors(path, (source.name for source in imported.weights.values()))
    else:
        theirs = published(read_checkpoint(path), imported.types).tensors
    found = take(resolve(imported.document.organism), imported.weights, theirs)
    weights = {path: tensor.to(torch.float32) for path, tensor in found.items()}
    save_checkpoint(out, Checkpoint(imported.document, weights, 0, imported.document.train.steps, ""))


def export_weights(checkpoint: Path, like: Path, out: Path, kind: str | None = None) -> int:
    """Write a folder like another one, config.json and model.safetensors, with a checkpoint's weights in its tensors.

    Adapters are merged. Tensors keep their dtypes, and those that no weight lies in their values. Gives how many there
    are. kind: the type that the folder's configuration was read as, if not its own.

    Raises:
        DiagnosticError: the organism is not that of the folder's configuration (EVO654), or as `import_weights`.
    """
    from safetensors.torch import save

    loaded, config = load_checkpoint(checkpoint), read_config(like)
    document, weights = merged(loaded.document, loaded.weights)
    imported = imported_from(config, document.name or "", kind=kind)
    if to_data(imported.document.organism) != to_data(document.organism):
        help = f"`evo import {like}` shows that architecture, and `evo diff` what differs"
        message = f"{checkpoint} is another architecture than the '{config.type}' in {like}"
        raise DiagnosticError([Diagnostic("EVO654", message, None, help)])
    before = read_checkpoint(like)
    held = published(before, imported.types)
    theirs = held.back(put(imported.weights, weights, held.tensors), before)
    out.mkdir(parents=True, exist_ok=True)
    source = like / "config.json" if like.is_dir() else like
    write_atomic(out / "config.json", source.read_text(encoding="utf-8"))
    write_atomic(out / "model.safetensors", save(theirs, {"format": "pt"}))
    return len(theirs)
