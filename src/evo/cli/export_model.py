"""`evo export CHECKPOINT`: an organism with its weights as a model of another tool."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.cli import view
from evo.cli.checkpoints import Given, helping, load_given
from evo.cli.documents import Json
from evo.cli.options import MOST_CONTEXT

if TYPE_CHECKING:
    from evo.training.checkpoint import Checkpoint


class Target(StrEnum):
    """What is written."""

    HF = "hf"
    TORCH = "torch"
    ONNX = "onnx"


WRITTEN = {
    Target.HF: ("config.json", "model.safetensors"),
    Target.TORCH: ("model.py", "model.safetensors"),
    Target.ONNX: ("model.onnx",),
}
"""The files of an export, by name."""


def command(
    context: typer.Context,
    checkpoint: Given,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    to: Annotated[Target, typer.Option("--to", help="A Hugging Face folder, Python that only needs torch, or ONNX.")],
    like: Annotated[
        Path | None,
        typer.Option("--like", help="For hf: a folder with config.json and safetensors of the same architecture."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--as", help="For hf: the type that `evo import --as` read it as.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            "--length", min=1, max=MOST_CONTEXT, help="For torch and onnx: tokens of a pass; the context if left out."
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Write a checkpoint as a model of another tool.

    torch: model.py, one readable file that only needs torch, and model.safetensors. onnx: model.onnx. hf: the weights
    go into the tensors of a folder of the same architecture, where `evo import` found them. Adapters are merged.
    """
    if (to is Target.HF) != (like is not None):
        raise typer.BadParameter("belongs to --to hf, and is needed there", context, param_hint="--like")
    if to is not Target.HF and kind is not None:
        raise typer.BadParameter("belongs to --to hf", context, param_hint="--as")
    if to is Target.HF and length is not None:
        raise typer.BadParameter("belongs to --to torch and --to onnx", context, param_hint="--length")
    _require_free(out, to)
    if like is not None:
        from evo.interop.checkpoint import export_weights

        with helping(checkpoint) as file:
            count = export_weights(file, like, out, kind)
        found, said = {"tensors": count}, f"config.json and {count} tensors"
    else:
        loaded = load_given(checkpoint)
        context_length = loaded.document.organism.context
        if length is not None and length > context_length:
            message = f"{length} tokens are more than the context of {context_length}"
            raise typer.BadParameter(message, context, param_hint="--length")
        found, said = _traced(loaded, to, length or context_length, out)
    if as_json:
        view.print_json("export", {"folder": str(out), "to": str(to), **found})
    else:
        view.say(f"wrote {out}: {said}")
    return 0


def _require_free(out: Path, to: Target) -> None:
    """Raise DiagnosticError (EVO601) where a file would be replaced: a model of the same names may lie there."""
    for name in WRITTEN[to]:
        if (out / name).exists():
            raise DiagnosticError([Diagnostic("EVO601", f"{out / name} exists", None, "--out names another folder")])


def _traced(loaded: Checkpoint, to: Target, length: int, out: Path) -> tuple[dict[str, int], str]:
    from evo.compiler.adapters import merged
    from evo.compiler.build import build
    from evo.compiler.check import is_causal
    from evo.compiler.resolve import resolve

    document, weights = merged(loaded.document, loaded.weights)
    model = build(resolve(document.organism), 0, weights=weights)
    if to is Target.ONNX:
        from evo.interop.program.onnx_file import write_onnx

        write_onnx(model, length, out)
        return {"length": length}, f"model.onnx, for {length} tokens"
    from evo.interop.program.torch_file import write_torch

    name = document.name or "an organism"
    lines = write_torch(model, name, length, is_causal(document), out)
    return {"length": length, "lines": lines}, f"model.py ({lines} lines, {length} tokens a pass) and model.safetensors"
