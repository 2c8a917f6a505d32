"""No file tells a kind by its name: what a reader needs, the spec, the plan or the built part says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

import evo
from evo.dsl.index import KINDS, kind_class
from evo.dsl.spec import spec_fields

PACKAGE = Path(evo.__file__).parent
INDEX = PACKAGE / "dsl" / "index.py"
STRANGERS_TO_THE_LANGUAGE = {"base", "kernels"}
"""Rooms that may not import it: a word there is their own."""
WRITERS_OF_DOCUMENTS = {"interop"}
"""Rooms that write documents from the files of other tools, as a person does: they spell kinds, theirs and ours."""
OWN_WORDS = {
    ("report/explain.py", "none"),  # a setting that is off
    ("evolution/seals.py", "bytes"),  # Python's type
}


def homes() -> dict[str, set[Path]]:
    """The folders that may name each kind, or its class: those of the modules that its rows point to."""
    found: dict[str, set[Path]] = {}
    for rows in KINDS.values():
        for kind, target in rows.items():
            module, _, cls = target.partition(":")
            for word in (kind, cls):
                found.setdefault(word, set()).add(PACKAGE.parent.joinpath(*module.split(".")).parent)
    return found


def choices() -> dict[str, set[str]]:
    """The words of every field of a spec, and of the specs inside it, that takes one of a few, by the field's name."""
    found: dict[str, set[str]] = {}
    classes = [kind_class(role, kind) for role, rows in KINDS.items() for kind in rows]
    for cls in classes:  # grows as it is walked
        for shape in spec_fields(cls).values():
            if get_origin(shape.info.annotation) is Literal:
                found.setdefault(shape.name, set()).update(get_args(shape.info.annotation))
            found.setdefault(shape.name, set()).update(shape.words)
            if shape.nested is not None and shape.nested not in classes:
                classes.append(shape.nested)
    return found


HOMES, CHOICES = homes(), choices()


def words(node: ast.expr) -> Iterator[str]:
    """The texts that an expression consists of."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for item in node.elts:
            yield from words(item)


def compared(node: ast.Compare) -> Iterator[str]:
    """The words that something is compared with, but for a field that takes them."""
    sides = (node.left, *node.comparators)
    fields = {side.attr for side in sides if isinstance(side, ast.Attribute)}
    free = set().union(*(CHOICES.get(field, set()) for field in fields))
    yield from (word for side in sides for word in words(side) if word not in free)


def told_apart(node: ast.AST) -> Iterator[str]:
    """The words by which a piece of code tells something apart: comparisons, tables, matches, attributes, classes."""
    if isinstance(node, ast.Compare):
        yield from compared(node)
    elif isinstance(node, ast.Dict):
        keys = {word for key in node.keys if key is not None for word in words(key)}
        is_table = 2 * len(keys & HOMES.keys()) > len(keys)  # a record may have a key that is spelled like a kind
        yield from keys if is_table and keys not in CHOICES.values() else ()
    elif isinstance(node, ast.MatchValue):
        yield from words(node.value)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in ("getattr", "hasattr"):
            yield from words(node.args[1])
        elif node.func.id in ("isinstance", "issubclass"):
            yield from (name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name))


def guesses(source: str) -> set[str]:
    """The names and classes of kinds by which a file tells something apart."""
    return {word for node in ast.walk(ast.parse(source)) for word in told_apart(node) if word in HOMES}


ROOMS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - STRANGERS_TO_THE_LANGUAGE - WRITERS_OF_DOCUMENTS


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_file_tells_a_kind_by_its_name(room: str) -> None:
    """Outside a kind's own folder and the index, no comparison, table, attribute or class check names it."""
    found = {
        (str(path.relative_to(PACKAGE)), word)
        for path in (PACKAGE / room).rglob("*.py")
        if path != INDEX
        for word in guesses(path.read_text())
        if path.parent not in HOMES[word]
    }
    assert found - OWN_WORDS == set()


@pytest.mark.parametrize(
    "source",
    [
        "mixer.kind == 'attention'",
        "'parallel' in forms",
        "kind in ('rope', 'other')",
        "getattr(mixer, 'parallel', None)",
        "TABLE = {'adamw': 1, 'muon': 2, 'mine': 3}",
        "match kind:\n    case 'window': pass",
        "plan.kind != 'none'",
        "isinstance(mixer, (str, AttentionSpec))",
    ],
)
def test_a_guess_is_found(source: str) -> None:
    """Every way to tell a kind by its name is seen."""
    assert guesses(source)


@pytest.mark.parametrize(
    "source",
    ["spec.qk_norm == 'rms'", "{'none': 1, 'silu': 2, 'sigmoid': 3}", "{'name': x, 'blocks': y}", "x = 'attention'"],
)
def test_a_field_may_be_compared_with_its_words(source: str) -> None:
    """Words of a field are no kinds, even where they are spelled like one; nor is a word that tells nothing apart."""
    assert not guesses(source)


def test_no_exception_is_left_over() -> None:
    """Every word that is let pass stands in its file still."""
    assert {(file, word) for file, word in OWN_WORDS if word not in guesses((PACKAGE / file).read_text())} == set()
