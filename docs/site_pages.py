"""MkDocs's hooks: the pages of the site that no file in docs/ holds. Commands come from typer, codes from their table,
others from the repository's root. Links that leave docs/ lead to these, or become plain text."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
AT_ROOT = {"ADDING.md": "adding.md", "CONVENTIONS.md": "conventions.md", "CHANGELOG.md": "changelog.md"}
"""Pages of the repository's root, and what they are called on the site."""
LINK = re.compile(r"(?<!\!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    made = {"commands.md": commands_page(), "codes.md": codes_page()}
    made |= {name: (ROOT / source).read_text() for source, name in AT_ROOT.items()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that leave docs/ lead to where their targets are on the site."""
    source = {name: path for path, name in AT_ROOT.items()}.get(page.file.src_uri)
    return relinked(markdown, source or f"docs/{page.file.src_uri}", page.file.src_uri)


def relinked(markdown: str, source: str, place: str) -> str:
    """A page's text with its links turned from the repository's tree to the site's.

    source: the page's path in the repository. place: its path on the site, as a source file.
    """

    def turned(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        path, mark, anchor = target.partition("#")
        if "://" in target or not path:
            return found[0]
        aim = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        name = AT_ROOT.get(aim, aim.removeprefix("docs/") if aim.startswith("docs/") else None)
        if name is None:
            return text
        return f"[{text}]({posixpath.relpath(name, posixpath.dirname(place) or '.')}{mark}{anchor})"

    return LINK.sub(turned, markdown)


def commands_page() -> str:
    """What `--help` says of every command."""
    import typer
    from typer.cli import get_docs_for_click

    from evo.cli.app import EXIT_CODES, load
    from evo.cli.commands import present

    ending = EXIT_CODES.replace("\b\n", "").strip()
    parts = ["# Commands\n", "As `evo COMMAND --help` tells them; `evo --help` lists all.\n"]
    parts += ["```text", ending, "```\n"]
    for name in present():
        command = load(name)
        text = get_docs_for_click(obj=command, ctx=typer.Context(command), name=name, call_prefix="evo")
        parts.append(_without_exit_codes(text).replace("\n# ", "\n## ").replace("# `", "## `", 1))
    return "\n".join(parts)


def _without_exit_codes(text: str) -> str:
    """They stand once, at the head of the page."""
    return re.sub(r"\n+Exit codes:\n(?:  .*\n)+", "\n", text.replace("\b", ""))


def codes_page() -> str:
    """Every code, with what shows it and the same mended."""
    from evo.base.codes import CODES

    parts = ["# Error codes\n", "`evo explain EVO210` prints the same in a shell.\n"]
    for name, code in CODES.items():
        parts += [f"## {name}: {code.title}\n", f"{code.explanation}\n"]
        language = "sh" if code.source == "command" else "yaml"
        for said, example in (("Shows it:", code.wrong), ("Mended:", code.fixed)):
            if example:
                parts += [said, "", f"```{language}", example.rstrip("\n"), "```", ""]
    return "\n".join(parts)
