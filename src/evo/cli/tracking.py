"""`--track`: who else is told what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from evo.base.diagnostics import DiagnosticError

if TYPE_CHECKING:
    from evo.dsl.tracker import TrackerSpec

Track = Annotated[
    list[str] | None,
    typer.Option(
        metavar="YAML", help="Whom to tell what is measured: tensorboard, wandb, mlflow, opentelemetry. Repeatable."
    ),
]


def trackers_of(texts: Sequence[str] | None) -> tuple[TrackerSpec, ...]:
    """Trackers, each by its kind alone or as YAML. Raises DiagnosticError."""
    return tuple(map(_tracker, texts or ()))


def _tracker(text: str) -> TrackerSpec:
    from evo.dsl.build import Builder
    from evo.dsl.tracker import TrackerSpec
    from evo.dsl.yaml import Entry, Node, read

    node = read(text, "--track")
    if isinstance(node.value, str):
        node = Node({"kind": Entry(node.span, node)}, node.span)
    builder = Builder(node)
    spec = builder.kind("tracker", ())
    if not isinstance(spec, TrackerSpec):
        raise DiagnosticError(builder.diagnostics, text)
    return spec
