"""The tutorials: what they say to write is written, what they say to type is typed, and all of it works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from commands import Evo

PAGES = Path(__file__).parents[1] / "docs" / "tutorials"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (\S+\.\w+)\n")
SEARCH = ("first_search", "reading_a_report", "longer_training")
"""Pages that speak of one run, in the order in which they are read."""
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def follow(page: str, evo: Evo) -> None:
    """Do what a page says, from its top to its end."""
    for language, text in BLOCK.findall((PAGES / f"{page}.md").read_text()):
        if language == "sh":
            for line in text.splitlines():
                typed(line, evo)
        else:
            write(text)


def write(text: str) -> None:
    """Write a file, which a block names in its first line."""
    name = NAMED.match(text)
    assert name, text
    file = Path(name[1])
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def typed(line: str, evo: Evo) -> None:
    """Carry out a line that is typed in a shell."""
    program, *words = shlex.split(line)
    if program == "python":
        subprocess.run([sys.executable, *words], check=True, timeout=60)
        return
    assert program == "evo", line
    said = evo(*words)
    assert said.code == 0 or words[0] == "diff", (line, said)  # documents that differ are what was asked for
    assert said.code in (0, 1)


def test_the_tutorials_of_a_search(evo: Evo) -> None:
    """A first search, its report, and training on from it."""
    for page in SEARCH:
        follow(page, evo)
    assert Path("results/tiny/report.html").is_file()
    assert Path("longer/metrics.jsonl").is_file()


def test_the_tutorial_of_own_text(evo: Evo, recwarn: pytest.WarningsRecorder) -> None:
    """A corpus that the page makes is trained on."""
    follow("own_text", evo)
    assert Path("results/sums/checkpoint.safetensors").is_file()


def test_the_tutorial_of_an_own_block(evo: Evo, install: Callable[[Mapping[str, str]], None]) -> None:
    """A package that the page writes is installed, and its kind trained and mutated."""
    text = (PAGES / "own_block.md").read_text()
    (toml,) = [block for language, block in BLOCK.findall(text) if language == "toml"]
    install(tomllib.loads(toml)["project"]["entry-points"]["evo.kinds"])
    try:
        follow("own_block", evo)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "evo_snake"]:
            del sys.modules[name]
    assert Path("results/snake/checkpoint.safetensors").is_file()


def test_every_tutorial_is_followed() -> None:
    """No page is left out."""
    assert {path.stem for path in PAGES.glob("*.md")} == {*SEARCH, "own_text", "own_block"}
