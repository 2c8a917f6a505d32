"""Every fault of meaning says what to do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "evo"
FIELDS = ("code", "path", "message", "help")


def unhelpful(source: str) -> list[int]:
    """The lines where a fault is made without help."""
    made = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    faults = (call for call in made if isinstance(call.func, ast.Name) and call.func.id == "Fault")
    return [
        call.lineno for call in faults if "help" not in {*FIELDS[: len(call.args)], *(k.arg for k in call.keywords)}
    ]


@pytest.mark.parametrize("room", sorted(path.name for path in SOURCES.iterdir() if path.is_dir()))
def test_every_fault_has_a_line_of_help(room: str) -> None:
    """Or says in so many words (`None`) that there is nothing to add."""
    found = {str(path): unhelpful(path.read_text(encoding="utf-8")) for path in (SOURCES / room).rglob("*.py")}
    assert not {path: lines for path, lines in found.items() if lines}


def test_one_without_is_found() -> None:
    """Its line is told."""
    assert unhelpful('a = 1\nyield_ = Fault("EVO300", (), "no")\nb = Fault("EVO300", (), "no", help="so")') == [2]
