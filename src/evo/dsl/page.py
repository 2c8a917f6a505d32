"""The reference of the language as one Markdown page: every section, role, kind and field."""

from __future__ import annotations

from evo.dsl.index import KINDS, UNIONS, keyed, kind_class, tagged
from evo.dsl.reference import FieldEntry, KindEntry, kind_entry, section_classes, with_nested

HEAD = """\
# The language

Generated from the spec classes by `evo schema --docs docs`; a check fails when it is stale. `evo explain
attention.heads` prints the same in a shell, and an editor with the JSON Schema shows it while you type. How documents
are put together is in [design.md](design.md), "The language".

"Evolution" says between which values a search moves a number, and how: `x2` doubles or halves, `+1` adds or subtracts
a few, `scale` multiplies by a random factor, `linear` adds a share of the range; `fixed` is left alone. Words, true or
false, and kinds need no range: evolution picks another one.
"""


def language_page() -> str:
    """The page."""
    sections = [_mapping(kind_entry(path or "document", cls), 3) for path, cls in section_classes().items()]
    roles = [_role(role) for role in KINDS]
    unions = [f"A **{union}** is any of: {', '.join(map(_link, members))}." for union, members in UNIONS.items()]
    contents = ", ".join(map(_link, KINDS))
    parts = [HEAD, "## Sections of a document", *sections, "## Roles and kinds", f"{contents}.", *unions, *roles]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _role(role: str) -> str:
    parts = [f"### {role}"]
    for kind in (*tagged(role), *keyed(role)):
        (first, *nested) = with_nested(f"{role}.{kind}", kind_class(role, kind)).items()
        parts += [_mapping(kind_entry(*first), 4), *(_mapping(kind_entry(*own), 5) for own in nested)]
    return "\n\n".join(parts)


def _mapping(entry: KindEntry, level: int) -> str:
    written = f"`{entry.written}`\n\n" if entry.written else ""
    text = f"{'#' * level} {entry.path}\n\n{written}{_escaped(entry.meaning)}"
    if not entry.fields:
        return text
    rows = ["| field | type | default | evolution | meaning |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([text, "", *rows, *map(_row, entry.fields)])


def _row(field: FieldEntry) -> str:
    default = "required" if field.default is None else f"`{field.default}`"
    cells = (f"`{field.key}`", field.type, default, field.gene or "", _escaped(field.meaning))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _link(role: str) -> str:
    return f"[{role}](#{role})"


def _escaped(text: str) -> str:
    """Prose whose signs shall not become emphasis or HTML: code between backticks stays as it is."""
    pieces = text.split("`")
    for index in range(0, len(pieces), 2):
        for sign in "\\*_<":
            pieces[index] = pieces[index].replace(sign, f"\\{sign}")
    return "`".join(pieces)
