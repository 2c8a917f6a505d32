"""The floors: imports point down, every room has one floor and one card, and what must answer at once is torch-free."""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "evo"
TORCH_FREE = (
    "__init__.py",
    "api/__init__.py",
    "api/documents.py",
    "base/**/*.py",
    "dsl/**/*.py",
    "data/**/*.py",
    "engines/**/*.py",
    "archive/*.py",
    "blocks/__init__.py",
    "blocks/*/__init__.py",
    "blocks/*/spec.py",
    "compiler/__init__.py",
    "compiler/plan.py",
    "compiler/resolve.py",
    "compiler/check.py",
    "compiler/examine.py",
    "evolution/__init__.py",
    "evolution/candidate.py",
    "evolution/crossover*.py",
    "evolution/emission.py",
    "evolution/emitters/**/*.py",
    "evolution/journal.py",
    "evolution/observer.py",
    "evolution/scheduler.py",
    "evolution/summary.py",
    "evolution/surrogates/*.py",
    "evolution/surrogates/*/__init__.py",
    "evolution/surrogates/*/spec.py",
    "evolution/surrogates/linear_ucb/*.py",
    "evolution/surrogates/ridge/*.py",
    "evolution/trial.py",
    "evolution/mutat*/**/*.py",
    "evolution/mutat*.py",
    "evolution/operators/**/*.py",
    "evolution/sample.py",
    "evolution/sites.py",
    "optimizers/__init__.py",
    "optimizers/spec.py",
    "optimizers/*/__init__.py",
    "optimizers/*/spec.py",
    "report/__init__.py",
    "slime/__init__.py",
    "slime/spec.py",
    "tasks/__init__.py",
    "tasks/base.py",
    "tasks/*/__init__.py",
    "tasks/*/spec.py",
    "training/__init__.py",
    "cli/*.py",
)
IMPORT_ALL = """
import importlib, json, sys
guilty = {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    for heavy in ("torch", "triton"):
        if heavy in sys.modules and heavy not in guilty:
            guilty[heavy] = name
print(json.dumps(guilty))
"""


def rooms() -> list[str]:
    """The packages directly below `evo`."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def floors() -> list[list[str]]:
    """The floors of the import contract, top first."""
    contract = configparser.ConfigParser(comment_prefixes=(";",))
    contract.read(ROOT / ".importlinter")
    lines = contract["importlinter:contract:floors"]["layers"].split("\n")
    return [[room.strip(" ()") for room in line.split("|")] for line in lines if line.strip()]


def module_name(path: Path) -> str:
    """The dotted name of a module's file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def torch_free_modules() -> list[str]:
    """Every module that must not load torch, and exists."""
    return sorted({module_name(path) for pattern in TORCH_FREE for path in PACKAGE.glob(pattern)})


def test_every_room_is_on_one_floor() -> None:
    """Each package is named by the import contract exactly once."""
    placed = [room for floor in floors() for room in floor]
    assert len(placed) == len(set(placed))
    assert set(rooms()) <= set(placed)


def test_every_room_has_a_card() -> None:
    """A room's `__init__.py` says what it holds, what it may import and what is never done there."""
    for room in rooms():
        card = (PACKAGE / room / "__init__.py").read_text()
        assert card.startswith('"""'), room
        assert "import" in card, room
        assert re.search(r"\b[Nn]ever\b", card), room


def test_imports_point_down() -> None:
    """import-linter keeps every contract."""
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


def test_import_linter_sees_every_module() -> None:
    """No folder of modules lacks its `__init__.py`, which would hide it from the contracts."""
    hidden = [path for path in PACKAGE.rglob("*.py") if not (path.parent / "__init__.py").exists()]
    assert hidden == []


def test_torch_free_modules_do_not_load_torch() -> None:
    """Importing the language, specs, resolver, operators and command line loads neither torch nor triton."""
    names = torch_free_modules()
    assert len(names) > 10
    command = [sys.executable, "-c", IMPORT_ALL, json.dumps(names)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout) == {}, "heavy library: module after whose import it was loaded"


def test_importing_prints_nothing() -> None:
    """Importing a module only defines names: no word on either stream."""
    statements = "; ".join(f"import {name}" for name in torch_free_modules())
    result = subprocess.run([sys.executable, "-c", statements], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("folder", ["src", "tests"])
def test_files_hold_one_idea(folder: str) -> None:
    """No Python file grows past 400 lines."""
    lengths = {path: path.read_text().count("\n") for path in (ROOT / folder).rglob("*.py")}
    assert {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > 400} == {}
