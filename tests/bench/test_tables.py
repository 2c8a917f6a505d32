"""Tables as files, with what a reader needs to trust or repeat them."""

import re
import subprocess
from pathlib import Path

import pytest

from evo.bench import tables
from evo.bench.tables import commit, hardware, markdown, software, write_table


def test_the_first_row_is_the_heading():
    """Golden text."""
    assert markdown([("case", "ms"), ("one", "1.0"), ("two", "2.0")]) == (
        "| case | ms |\n| --- | --- |\n| one | 1.0 |\n| two | 2.0 |"
    )


def test_a_table_is_written_with_its_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Golden text but for the date: title, command, commit, hardware, software, and the table itself."""
    for name, told in (("commit", "abc123"), ("hardware", "a lathe"), ("software", ["torch 1", "triton 2"])):
        monkeypatch.setattr(tables, name, lambda told=told: told)
    path = tmp_path / "below" / "speed.md"
    write_table(path, "Speed", "evo bench speed", "| a |")
    text = path.read_text(encoding="utf-8")
    assert re.sub(r"\d{4}-\d\d-\d\d", "DATE", text) == (
        "# Speed\n\n- command: `evo bench speed`\n- commit: abc123, DATE\n- hardware: a lathe\n"
        "- software: torch 1, triton 2\n\n| a |\n"
    )


def test_the_facts_are_this_machines():
    """A processor or a GPU, and the versions of Python and torch first."""
    assert hardware()
    python, torch = software()[:2]
    assert python.startswith("Python 3.")
    assert torch.startswith("torch 2.")


def test_a_commit_is_unknown_outside_a_checkout(monkeypatch: pytest.MonkeyPatch):
    """An installed package has none; where there is no git, neither."""
    for failure in (FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")):

        def run(*_: object, failure: Exception = failure, **settings: object) -> None:
            raise failure

        monkeypatch.setattr(subprocess, "run", run)
        assert commit() == "unknown"
