"""The last guard: no exception, full disk or closed stream becomes a traceback."""

import errno
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let every command that reads a document raise an error."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("evo.compiler.examine.examine", fail)


def test_a_fault_of_evo_is_a_short_report(evo, good: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Code, what, where, and the file that holds the traceback; exit status 70, apart from faults of the input."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing(monkeypatch, ZeroDivisionError("float division by zero"))
    outcome = evo("validate", good)
    assert outcome.code == 70
    assert outcome.err.startswith("EVO006 evo itself failed: ZeroDivisionError: float division by zero (at compiler/")
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) == 2
    (kept,) = re.findall(r"the traceback is in (\S+);", outcome.err)
    assert "ZeroDivisionError: float division by zero\n" in Path(kept).read_text(encoding="utf-8")


def test_a_fault_of_evo_as_json(evo, good: Path, monkeypatch: pytest.MonkeyPatch):
    """Programs get the same report on stdout."""
    failing(monkeypatch, RuntimeError("odd"))
    outcome = evo("validate", good, "--json")
    assert outcome.code == 70
    assert [fault["code"] for fault in outcome.json["error"]] == ["EVO006"]


def test_the_traceback_is_shown_where_it_is_asked_for(evo, good: Path, monkeypatch: pytest.MonkeyPatch):
    """`evo --debug`, and nothing in the environment."""
    failing(monkeypatch, RuntimeError("odd"))
    outcome = evo("--debug", "validate", good)
    assert outcome.code == 70
    assert "Traceback (most recent call last)" in outcome.err
    assert "EVO006" in outcome.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "r/run.yaml"), "EVO007"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "EVO007"),
        (PermissionError(errno.EACCES, "Permission denied", "f"), "EVO004"),
        (MemoryError(), "EVO008"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "EVO008"),
    ],
)
def test_faults_of_the_surroundings_have_codes(evo, good: Path, monkeypatch, error: Exception, code: str):
    """A full disk, a refusal and too little memory are told apart, and are nobody's bug."""
    failing(monkeypatch, error)
    outcome = evo("validate", good)
    assert outcome.code == 1
    assert code in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_nothing(good: Path, closed: str):
    """`evo validate f >&-` says by its exit status that the document is valid."""
    script = f"{sys.executable} -m evo validate {good} {closed}"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_output_to_a_full_disk_is_told(good: Path):
    """What could not be written is no success."""
    script = f"{sys.executable} -m evo validate {good} > /dev/full"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.startswith("EVO007 No space left on device\n")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_json_that_nothing_takes_is_said_on_stderr(good: Path):
    """Neither the answer nor the fault finds room on stdout: a code and exit status 1, no traceback."""
    script = f"{sys.executable} -m evo render {good} --json > /dev/full"
    outcome = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("EVO007")


INTERRUPTED = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "evo.cli.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from evo.__main__ import main
main()
"""


def test_an_interrupt_while_evo_is_imported_is_no_crash():
    """Ctrl-C in the first tenth of a second."""
    found = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (130, "")


def test_the_console_script_is_guarded():
    """It and `python -m evo` are one function."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'evo = "evo.__main__:main"' in text


def test_a_traceback_that_cannot_be_kept_is_offered(evo, good: Path, monkeypatch: pytest.MonkeyPatch):
    """Where no temporary file can be written, the way to see it is named."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    failing(monkeypatch, RuntimeError("odd"))
    outcome = evo("validate", good)
    assert outcome.code == 70
    assert "`evo --debug ...` shows the traceback" in outcome.err


def test_what_sqlite_says_is_no_fault_of_evo(evo, good: Path, monkeypatch: pytest.MonkeyPatch):
    """A journal that is damaged where it is read has the code of journals."""
    failing(monkeypatch, sqlite3.DatabaseError("database disk image is malformed"))
    outcome = evo("validate", good)
    assert outcome.code == 1
    assert outcome.err.startswith("EVO600 the journal is not the journal of a run, or is damaged: ")
