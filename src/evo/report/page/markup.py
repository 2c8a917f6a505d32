"""HTML as values: whatever is not `Html` already is escaped on its way into an element."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

VOID = frozenset({"meta", "br"})


class Html(str):
    """Text that is markup."""

    __slots__ = ()


Attribute: TypeAlias = str | int | float | bool | None


def tag(name: str, /, *children: str | None, **attributes: Attribute) -> Html:
    """An element. Children that are not Html are escaped, None is left out.

    `class_` and `aria_label` spell class and aria-label. An attribute that is None or False is left out, True stands
    alone.
    """
    head = name + "".join(map(_attribute, attributes.items()))
    return Html(f"<{head}>") if name in VOID else Html(f"<{head}>{joined(children)}</{name}>")


def joined(parts: Iterable[str | None], separator: str = "") -> Html:
    """Parts one after the other, escaped where they are plain text."""
    return Html(separator.join(_markup(part) for part in parts if part is not None))


def _markup(part: str) -> str:
    return part if isinstance(part, Html) else escape(part, quote=False)


def _attribute(item: tuple[str, Attribute]) -> str:
    name, value = item[0].rstrip("_").replace("_", "-"), item[1]
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
