"""The documentation site: its made pages tell what there is, and it is built without a warning where MkDocs is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from evo.base.codes import CODES
from evo.cli.commands import ROWS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """The hooks that make pages."""
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_command_and_code_has_its_place(pages: ModuleType) -> None:
    """From typer and from the table of codes: nothing is written twice, so nothing is stale."""
    commands, codes = pages.commands_page(), pages.codes_page()
    assert all(f"\n## `evo {name}`\n" in commands for name in ROWS)
    assert "--generations" in commands
    assert commands.count("Exit codes") == 1
    assert "\b" not in commands, "a mark for the terminal"
    assert all(f"## {name}: {code.title}" in codes for name, code in CODES.items())


@pytest.mark.parametrize(
    ("link", "source", "place", "turned"),
    [
        ("[A](../ADDING.md)", "docs/design.md", "design.md", "[A](adding.md)"),
        ("[A](../../ADDING.md#role)", "docs/tutorials/x.md", "tutorials/x.md", "[A](../adding.md#role)"),
        ("[`d`](docs/design.md)", "ADDING.md", "adding.md", "[`d`](design.md)"),
        ("[`s`](src/evo/x.py) [b](examples/)", "ADDING.md", "adding.md", "`s` b"),
        ("[a](how.md) [b](#here) [c](https://x.example)", "docs/faq.md", "faq.md", "[a](how.md) [b](#here) [c](https://x.example)"),
    ],
)  # fmt: skip
def test_links_lead_within_the_site(pages: ModuleType, link: str, source: str, place: str, turned: str) -> None:
    """To pages of it, wherever they stand in the repository; what the site has not is named and not linked."""
    assert pages.relinked(link, source, place) == turned


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="MkDocs is not installed: pip install '.[docs]'")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Links and anchors are checked; nothing of a page is fetched from elsewhere."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "tutorials" / "first_search.html").is_file()
