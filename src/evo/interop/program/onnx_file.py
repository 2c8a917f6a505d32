"""A pass as ONNX, by torch's exporter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler.organism import Organism
from evo.interop.program.trace import quiet, trace, untraceable

FILE = "model.onnx"


def _argsort(x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    """By ONNX's choice of the best, which puts equal ones in the order in which they stand."""
    del stable
    return x.topk(x.shape[dim], dim, largest=descending, sorted=True).indices


def _cummax(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """By doubling, values alone: nothing here reads where the largest stand."""
    size, reach = x.shape[dim], 1
    while reach < size:
        earlier = torch.cat((x.narrow(dim, 0, reach), x.narrow(dim, 0, size - reach)), dim)
        x, reach = torch.maximum(x, earlier), 2 * reach
    return x, torch.zeros_like(x, dtype=torch.int64)


def _solve_unit(a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """(I + N)^-1 b with N strictly lower: b times (I - N)(I + N^2)(I + N^4) ..., which ends at the size of N."""
    if upper or not left or not unitriangular:
        raise NotImplementedError("only unit lower triangles from the left are solved here")
    power, reach = -a.tril(-1), 1
    while reach < a.shape[-1]:
        b, power, reach = b + power @ b, power @ power, 2 * reach
    return b


OTHERWISE: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.argsort.stable: _argsort,
    torch.ops.aten.cummax.default: _cummax,
    torch.ops.aten.linalg_solve_triangular.default: _solve_unit,
}
"""Operations that ONNX has not, by others."""


def write_onnx(organism: Organism, length: int, out: Path) -> None:
    """Write `model.onnx`: tokens (B, length) int64 -> logits (B, length, V). The organism is of no use afterwards.

    Raises:
        DiagnosticError: `onnx` or `onnxscript` is missing (EVO656), or as `trace`.
    """
    require_onnx()
    save_onnx(trace(organism, length), ("tokens", "logits"), out)


def require_onnx() -> None:
    """Raise DiagnosticError (EVO656) where a package that writes ONNX is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        help = "`pip install evo[onnx]`, or export `--to torch`"
        message = f"ONNX is written by packages of which one is not installed: {error.name}"
        raise DiagnosticError([Diagnostic("EVO656", message, None, help)]) from error


def save_onnx(traced: ExportedProgram, names: tuple[str, str], out: Path) -> None:
    """Write a graph as `model.onnx`, its input and output by name. Raises DiagnosticError (EVO655) where ONNX cannot
    say it."""
    try:
        with quiet():
            exported: Any = traced
            if any(node.target in OTHERWISE for node in traced.graph.nodes):  # it traces all anew, which takes its time
                exported = traced.run_decompositions(OTHERWISE)
            called: Any = {"input_names": [names[0]], "output_names": [names[1]]}
            program = torch.onnx.export(exported, dynamo=True, verbose=False, **called)
    except Exception as error:  # whatever torch's exporter has no ONNX for
        raise untraceable("write as ONNX", error.__cause__ or error, "`--to torch` writes it as Python") from error
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as folder:  # a graph above 2 GB has its weights in a file beside it
        assert program is not None
        program.save(str(Path(folder) / FILE))
        for file in Path(folder).iterdir():
            file.replace(out / file.name)
