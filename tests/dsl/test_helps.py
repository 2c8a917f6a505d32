"""Every fault of meaning says what to do."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from evo.compiler.check import check
from evo.dsl.document import from_data

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


ROUTED = {"kind": "experts", "count": 4, "router": {"balance": 0, "logits_to": "r"}}
BY_RULE = {"kind": "depths", "name": "d", "of": {"name": "b", "mix": {"kind": "convolution"}}, "share": 0.5}
INNER: dict[str, tuple[dict[str, Any], str, str]] = {
    "routers": ({"name": "b", "mix": {"kind": "convolution"}, "ffn": ROUTED}, "shares", "remove logits_to"),
    "token ids": (BY_RULE | {"patcher": {"kind": "space"}}, "reads token ids", "take it out"),
    "keys": ({"name": "b", "mix": {"kind": "attention", "heads": 2, "kv_to": "k"}}, "shares", "keys and values"),
}


@pytest.mark.parametrize("name", INNER)
def test_help_is_about_what_is_shared(name: str) -> None:
    """A router or a patcher has no keys and values that could be its own."""
    of, says, helps = INNER[name]
    around = {"name": "s", "kind": "segments", "of": of, "every": 8}
    found = check(from_data({"evo": 1, "organism": {"width": 16, "context": 32, "stages": [around]}}))
    (fault,) = (diagnostic for diagnostic in found if diagnostic.code == "EVO358")
    assert says in fault.message
    assert helps in (fault.help or "")
