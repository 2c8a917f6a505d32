"""Weights between a checkpoint and an organism, by the sources of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler.plan import Plan
from evo.interop.parts import Weights

if TYPE_CHECKING:
    from torch import Tensor


def take(plan: Plan, sources: Weights, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an organism by path, in the dtype of the checkpoint's.

    Raises:
        DiagnosticError: the plan and the sources do not name the same weights, a tensor is not there, or its part is
            not of the planned size (EVO653).
    """
    if unknown := plan.weights.keys() ^ sources.keys():
        raise _failed(f"the family does not say where these weights lie: {', '.join(sorted(unknown)[:8])}")
    found: dict[str, Tensor] = {}
    for path, weight in plan.weights.items():
        source = sources[path]
        part = source.view(theirs[_name(source.name, theirs, path)])
        for name, view in source.plus:
            part = part + view(theirs[_name(name, theirs, path)])
        if part.numel() != weight.count:
            raise _failed(f"'{source.name}' gives {tuple(part.shape)} for {path}, planned {weight.shape}")
        found[path] = (part.reshape(weight.shape) * source.scale + source.add).contiguous()
    return found


def put(sources: Weights, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint with an organism's weights where `take` found them: the way back.

    theirs: the checkpoint that they were taken from, whose other tensors and dtypes stay.

    Raises:
        DiagnosticError: weights that were taken from one place have become different (EVO653).
    """
    from torch import allclose

    written: list[tuple[str, Tensor, Tensor]] = []
    found = {name: tensor.clone() for name, tensor in theirs.items()}
    for path, source in sources.items():
        part = source.view(found[_name(source.name, found, path)])
        value = ((ours[path] - source.add) / source.scale).reshape(part.shape)
        for name, view in source.plus:
            value = value - view(found[_name(name, found, path)])
        part.copy_(value)
        written.append((path, part, value.to(part.dtype)))
    for path, part, value in written:
        if not allclose(part, value, equal_nan=True):
            raise _failed(f"{path} and another weight lie in one tensor of the checkpoint, and have been trained apart")
    return found


def _name(names: str, theirs: Mapping[str, Tensor], path: str) -> str:
    """The one of several names, `|` between them, that a checkpoint has."""
    for name in names.split("|"):
        if name in theirs:
            return name
    raise _failed(f"the checkpoint has no '{names}', which {path} is taken from")


def read_checkpoint(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the safetensors files in a folder, or of one file.

    Raises:
        DiagnosticError: there are none, or one is damaged (EVO653).
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise _failed(f"there is no safetensors file in {folder}")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except SafetensorError as error:
            raise _failed(f"{file} is no safetensors file, or damaged: {error}") from None
    return tensors


def _failed(message: str) -> DiagnosticError:
    return DiagnosticError([Diagnostic("EVO653", message)])
