"""An encoder as a program that needs none of this: ONNX, or torch's own archive."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import torch

from evo.api.slime.encoder import SlimeMoldEncoder
from evo.interop.program.onnx_file import FILE, require_onnx, save_onnx
from evo.interop.program.trace import ROWS, graph, quiet

ARCHIVE = "model.pt2"


def export_encoder(encoder: SlimeMoldEncoder, length: int, out: str | Path, to: Literal["onnx", "torch"]) -> Path:
    """Write an encoder of sequences by themselves, (B, length, sensory_dim) -> (B, length, latent_dim), for any B.

    Args:
        encoder: stays as it is; what it carries in a `FlowState` is not exported.
        length: vectors of a sequence.
        out: the folder.
        to: `onnx` writes model.onnx (`vectors` -> `latents`), `torch` model.pt2 for `torch.export.load`.

    Raises:
        DiagnosticError: a package for ONNX is missing (EVO656), or ONNX cannot say what the encoder does (EVO655).
    """
    if to == "onnx":
        require_onnx()
    alone = copy.deepcopy(encoder).cpu()
    alone.metrics = None
    traced, folder = graph(alone, torch.zeros(ROWS, length, encoder.sensory_dim)), Path(out)
    if to == "onnx":
        save_onnx(traced, ("vectors", "latents"), folder)
        return folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        torch.export.save(traced, folder / ARCHIVE)
    return folder / ARCHIVE
