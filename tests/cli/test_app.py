"""The program as a whole: help, exit codes, and errors that never become tracebacks."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from evo import __version__
from evo.cli.commands import ROWS, Row, present

TORCH_FREE = ("validate", "fmt", "diff", "apply", "explain", "schema")


def test_help_lists_every_command_that_is_there(evo):
    """One line a command, and the exit codes."""
    outcome = evo("--help")
    assert outcome.code == 0
    for name, row in present().items():
        assert f"  {name} " in outcome.out
        assert row.help in outcome.out
    assert "Exit codes:" in outcome.out


@pytest.mark.parametrize("name", list(present()))
def test_a_row_repeats_its_command(name: str):
    """The help in the table is the first line of the docstring, and the command is there."""
    row = ROWS[name]
    found = getattr(importlib.import_module(row.module), row.attribute)
    doc = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
    assert str(doc).splitlines()[0] == row.help


@pytest.mark.parametrize("name", list(present()))
def test_every_command_has_help_with_exit_codes(evo, name: str, monkeypatch: pytest.MonkeyPatch):
    """`evo NAME --help` works, exits with 0, and cuts no summary of a subcommand short at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    outcome = evo(name, "--help")
    assert not [line for line in outcome.out.partition("\nCommands:")[2].splitlines() if line.endswith("...")]
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: evo {name} ")


def test_a_command_that_is_not_installed_is_not_listed(evo, monkeypatch: pytest.MonkeyPatch):
    """A row without its module is silent until the module comes."""
    monkeypatch.setitem(ROWS, "teleport", Row("evo.cli.teleport:command", "Teleport."))
    assert "teleport" not in present()


def test_the_version(evo):
    """`evo --version` names the version."""
    assert evo("--version").out == f"evo {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["valdate"], ["validate"], ["validate", "--nope"], ["diff", "a.yaml"]])
def test_a_wrong_command_line_exits_with_2(evo, arguments: list[str]):
    """Usage errors are told apart from faults of the input."""
    outcome = evo(*arguments)
    assert outcome.code == 2
    assert "Usage: evo" in outcome.err + outcome.out


def test_a_misspelt_command_is_suggested(evo):
    """Near words are offered."""
    assert "Did you mean 'validate'?" in evo("valdate").err


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "{bad}"],
        ["fmt", "{bad}"],
        ["diff", "{bad}", "{good}"],
        ["apply", "{bad}", "{good}"],
        ["explain", "{bad}"],
        ["explain", "EVO999"],
        ["explain", "missing.yaml"],
        ["explain", "{good}", "--kernels", "--device", "cudda"],
        ["train", "{good}", "--device", "cpu", "--kernels", "triton", "--out", "{empty}"],
        ["train", "{good}", "--device", "cpu", "--kernels", "tritn", "--out", "{empty}"],
        ["validate", "missing.yaml"],
        ["apply", "{good}", "{good}"],
        ["apply", "missing.yaml", "{good}"],
        ["schema", "--check", "--out", "{empty}"],
        ["schema", "--out", "{good}"],
        ["apply", "{patch}", "{good}", "--out", "{good}/below.yaml"],
        ["validate", "{empty}"],
    ],
)
def test_faults_of_the_input_exit_with_1_and_diagnostics(evo, good: Path, bad: Path, tmp_path: Path, arguments):
    """Whatever is wrong, it is a diagnostic with a code: as text on stderr, or as JSON on stdout."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "patch.yaml").write_text("evo_patch: 1\nedits: []\n")
    names = {"good": good, "bad": bad, "empty": tmp_path / "empty", "patch": tmp_path / "patch.yaml"}
    filled = [argument.format(**names) for argument in arguments]
    outcome = evo(*filled)
    assert outcome.code == 1
    assert "EVO" in outcome.err
    assert "Traceback" not in outcome.err
    as_json = evo(*filled, "--json")
    assert as_json.code == 1
    assert as_json.json["command"] == arguments[0]
    assert as_json.json["format"] == 1


def test_interrupts_exit_with_130(evo, good: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C is no crash."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evo.compiler.examine.examine", interrupt)
    assert evo("validate", good).code == 130


def test_a_closed_pipe_is_silent(good: Path):
    """`evo explain | head -0` prints no traceback."""
    script = f"{sys.executable} -m evo explain {good} | true"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert found.stderr == ""


def test_a_terminal_that_cannot_spell_gets_escapes(tmp_path: Path):
    """An ASCII locale shows a Russian key escaped."""
    path = tmp_path / "f.yaml"
    path.write_text("ключ: 1\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "evo", "validate", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 1
    assert "\\u043a" in found.stderr


def test_python_m_evo_is_the_console_script():
    """Both are `main`."""
    found = subprocess.run([sys.executable, "-m", "evo", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout == f"evo {__version__}\n"


HEAVY = """
import sys
from evo.cli.app import main
for arguments in {runs!r}:
    try:
        main(arguments)
    except SystemExit:
        pass
heavy = [name for name in ("torch", "numpy", "scipy", "rich", "triton", "sklearn") if name in sys.modules]
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""


def test_torch_free_commands_import_nothing_heavy(good: Path, tmp_path: Path):
    """None of them, nor `evo --help`, imports torch, numpy or rich: that is what makes them answer at once."""
    (tmp_path / "patch.yaml").write_text("evo_patch: 1\nedits: []\n")
    runs = [
        ["--help"],
        *([name, "--help"] for name in TORCH_FREE),
        ["validate", str(good)],
        ["fmt", "--check", str(good)],
        ["diff", str(good), str(good)],
        ["apply", str(tmp_path / "patch.yaml"), str(good)],
        ["explain", str(good)],
        ["explain", "EVO210"],
        ["schema", "--out", str(tmp_path)],
    ]
    found = subprocess.run([sys.executable, "-c", HEAVY.format(runs=runs)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
