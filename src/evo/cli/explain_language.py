"""`evo explain attention.heads`: what the language says of its parts."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from evo.cli import view

if TYPE_CHECKING:
    from evo.dsl.reference import FieldEntry, KindEntry, RoleEntry


def explain_language(path: str, as_json: bool) -> int:
    """Show a section, a role, a kind or a field. Raises DiagnosticError where there is none of that name (EVO005)."""
    from dataclasses import asdict

    from evo.dsl.reference import entry

    found = entry(path)
    if as_json:
        view.print_json("explain", {"path": path, "entries": [asdict(item) for item in found]})
        return 0
    view.say_painted("\n\n".join(_shown(item, path) for item in found))
    return 0


def _shown(item: FieldEntry | KindEntry | RoleEntry, path: str) -> str:
    from evo.dsl.reference import FieldEntry, KindEntry

    if isinstance(item, FieldEntry):
        return _field(item, path)
    return _kind(item) if isinstance(item, KindEntry) else _role(item)


def _field(field: FieldEntry, path: str) -> str:
    from evo.dsl.reference import FIXED

    rows = [("type", field.type), ("default", "it must be written" if field.default is None else field.default)]
    if field.gene is not None:
        rows.append(("evolution", "leaves it alone" if field.gene == FIXED else field.gene))
    lines = [_wrapped(f"{name:<9}  ", text) for name, text in rows]
    return "\n".join([view.bold(path), _wrapped("", field.meaning), "", *lines])


def _kind(kind: KindEntry) -> str:
    head = view.bold(kind.path) + (f"  {kind.written}" if kind.written else "")
    width = max((len(field.key) for field in kind.fields), default=0)
    lines = [head, *(textwrap.fill(view.safe(part), view.width()) for part in kind.meaning.split("\n\n"))]
    if kind.fields:
        lines.append("")
    for field in kind.fields:
        default = "required" if field.default is None else f"default {field.default}"
        lines.append(_wrapped(f"{field.key:<{width}}  ", f"{field.meaning} ({field.type}; {default})"))
    return "\n".join(lines)


def _role(role: RoleEntry) -> str:
    width = max(len(name) for name, _ in role.kinds)
    lines = [_wrapped(f"{name:<{width}}  ", f"{about}.") for name, about in role.kinds]
    return "\n".join([f"{view.bold(role.path)}: one of", *lines])


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(view.safe(text), view.width(), initial_indent=head, subsequent_indent=" " * len(head))
