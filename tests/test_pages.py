"""The pages that people read: links lead somewhere, and what can be checked of docs/design.md is true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from evo.base.diagnostics import render
from evo.compiler.check import check
from evo.dsl.document import examine, parse
from test_floors import floors

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").rglob("*.md")]
DESIGN = (ROOT / "docs" / "design.md").read_text()
WRONG = """\
evo: 1
organism:
  width: 64
  stages:
    - name: body
      mix:
        kind: atention
        heads: 2
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file or folder of this repository."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    here = [link for link in links if "://" not in link]
    assert [link for link in here if not (page.parent / link).resolve().is_relative_to(ROOT)] == []
    assert [link for link in here if not (page.parent / link).exists()] == []


def test_the_session_validates_every_example() -> None:
    """The README's count of documents is that of `examples`."""
    (count,) = re.findall(r"\$ evo validate examples\n(\d+) files: valid\n", (ROOT / "README.md").read_text())
    assert int(count) == len([*(ROOT / "examples").rglob("*.yaml")])


def test_what_there_is_to_make_fits_a_terminal() -> None:
    """`make help` takes 80 columns, and its second column begins in one place."""
    told = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory", "help"], capture_output=True, text=True, check=True
    )
    lines = told.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert {len(line) - len(line.split(maxsplit=2)[2]) for line in lines} == {lines[0].index("Say")}


def test_the_floors_are_those_of_the_import_contract() -> None:
    """The picture of the floors has the rooms of `.importlinter`, floor by floor."""
    picture = re.findall(r"^([0-7])  (\w+(?:   \w+)*)  ", DESIGN, re.MULTILINE)
    assert [int(number) for number, _ in picture] == list(range(7, -1, -1))
    built = {path.parent.name for path in (ROOT / "src" / "evo").glob("*/__init__.py")}
    assert [set(rooms.split()) for _, rooms in picture] == [set(rooms) & built for rooms in floors()]


def test_the_example_of_the_language_is_sound() -> None:
    """It has no fault and no warning."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", DESIGN, re.MULTILINE | re.DOTALL)
    assert check(parse(text)) == []


def test_the_example_of_an_error_is_what_is_printed() -> None:
    """The diagnostic on the page is that of its document, to the character."""
    (fault,) = examine(WRONG, "hybrid.yaml").faults
    assert f"```\n{render(fault, WRONG)}\n```" in DESIGN
