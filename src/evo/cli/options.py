"""Options that stand for the fields of a spec: made from the fields, so that each has one of its own name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evo.base.diagnostics import DiagnosticError

if TYPE_CHECKING:
    from evo.dsl.reference import FieldEntry
    from evo.dsl.spec import Spec, SpecField

Command = Callable[..., None]
PLAIN = (int, float, bool)
NOTHING = ("null", "{}", "[]")
"""Defaults that say nothing to a reader: the field's meaning does, or the fields inside."""
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
MOST_SEED = 2**63 - 1
"""The largest seed, as of the fields of that name."""
MOST_THREADS = 1024
"""Of CPU threads, and of worker processes."""
MOST_STEPS = 100_000_000
"""As of `train.steps`."""
MOST_CONTEXT = 10_000_000
"""As of `organism.context`."""
MOST_SECONDS = 365 * 86_400.0
MOST_GIB = 2.0**20


def finite(value: float | None) -> float | None:
    """A number as it is: no comparison with a limit keeps NaN out. Raises typer.BadParameter."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def with_fields(cls: type[Spec]) -> Callable[[Command], Command]:
    """Give a command one option a field of a spec class in place of its `**` parameter: None where it is not given.

    Numbers and booleans are options of their type; their limits are for `documents.overridden` to hold. Everything
    else is written as YAML, a kind with its defaults as its name alone.
    """
    from evo.dsl.reference import kind_entry
    from evo.dsl.spec import spec_fields

    told = kind_entry("", cls).fields
    made = [_parameter(shape, _help(field)) for shape, field in zip(spec_fields(cls).values(), told, strict=True)]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        command.__signature__ = signature.replace(parameters=[*own, *made])  # type: ignore[attr-defined]
        return command

    return decorate


def _help(field: FieldEntry) -> str:
    """A field's meaning, and what it is where nothing else is said, if that is something."""
    return field.meaning if field.default in NOTHING else f"{field.meaning}  [default: {field.default}]"


def _parameter(shape: SpecField, help: str) -> inspect.Parameter:
    if shape.info.annotation in PLAIN:
        option, kind = typer.Option(help=help), shape.info.annotation
    else:
        option, kind = typer.Option(parser=_reader(shape), metavar="YAML", help=help), Any
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(shape.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _reader(shape: SpecField) -> Callable[[str], Any]:
    def read_value(text: str) -> Any:
        from evo.dsl.yaml import read

        try:
            value = read(text).plain()
        except DiagnosticError as error:
            raise typer.BadParameter(str(error)) from None
        return {"kind": value} if shape.kind and isinstance(value, str) else value

    return read_value
