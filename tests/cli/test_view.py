"""How commands print."""

import ast
import io
import os
import sys
from pathlib import Path

import pytest

from evo.base.diagnostics import Diagnostic, Span
from evo.cli import view


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


FAULT = Diagnostic("EVO200", "x", Span("f", 1, 1), "y")


def test_terminals_get_colour_and_pipes_do_not(monkeypatch: pytest.MonkeyPatch):
    """NO_COLOR and dumb terminals are respected; without colour the text is the same."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    coloured, plain = Terminal(), io.StringIO()
    view.show([FAULT], "a", coloured)
    view.show([FAULT], "a", plain)
    assert "\x1b[1;31mEVO200\x1b[0m" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    again = Terminal()
    view.show([FAULT], "a", again)
    assert again.getvalue() == plain.getvalue()


def test_terminals_get_help_in_their_width_and_pipes_on_a_line(monkeypatch: pytest.MonkeyPatch):
    """A program reads lines; a person must not read words that the edge tore apart."""
    monkeypatch.setenv("COLUMNS", "60")
    fault = Diagnostic("EVO200", "x", None, 30 * "some words ")
    narrow, plain = Terminal(), io.StringIO()
    monkeypatch.setenv("NO_COLOR", "1")
    view.show([fault], "", narrow)
    view.show([fault], "", plain)
    assert max(map(len, narrow.getvalue().splitlines())) <= 60
    assert len(plain.getvalue().splitlines()) == 2


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (999.6, "1 k"), (12_345, "12.3 k"), (4.56e6, "4.56 M"), (1.25e14, "125 T"), (3e15, "3 P")],
)
def test_counts_are_short(number: float, text: str):
    """Three digits and a unit."""
    assert view.count(number) == text


def test_tables_line_up():
    """Words to the left, numbers to the right, no trailing space."""
    assert view.table([["a", "1"], ["long", "234"], ["b", ""]]) == "a       1\nlong  234\nb"


def test_a_sentence_takes_eighty_columns_in_a_pipe(capsys: pytest.CaptureFixture[str]):
    """A path is not torn apart, however long."""
    path = "results/" + 90 * "a-b"
    view.say_wrapped(f"{30 * 'word '}{path}")
    *lines, last = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert last == path


def test_numbers_of_things():
    """One is singular."""
    assert [view.plural(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


def test_no_command_prints_by_itself():
    """Only `view.say` does, which escapes what would drive a terminal; the live table and the parser have others."""
    for path in Path(view.__file__).parent.glob("*.py"):
        if path.name not in ("view.py", "app.py", "watching.py"):
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], path.name


def test_names_cannot_drive_the_terminal(evo, tmp_path: Path):
    """A path with an escape sequence is shown escaped, by every command that shows it."""
    path = tmp_path / "f\x1b[31m.yaml"
    stages = "stages: [{name: s, mix: {kind: convolution}}]"
    path.write_text(f"evo: 1\norganism:\n  width: 0x40\n  {stages}\n")
    for command in (["explain"], ["fmt"], ["validate"]):
        outcome = evo(*command, path)
        assert "\x1b" not in outcome.out + outcome.err
    assert r"f\x1b[31m: width 64" in evo("explain", path).out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_json_holds_no_half_characters(evo, tmp_path: Path):
    """A folder whose name is not UTF-8 has one in no key; whole characters and backslashes stay."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \\udce9 " + "\U0001f4a5".encode()))
    folder.mkdir()
    (folder / "x.yaml").write_text("evo: 1\n")
    found = evo("validate", folder, "--json").json
    name = Path(found["files"][0]["file"]).parent.name
    assert name == "caf\ufffd \\udce9 \U0001f4a5"
    assert found["errors"] == 1
