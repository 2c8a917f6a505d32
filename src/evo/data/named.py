"""Corpora as documents name them, found without being read."""

from __future__ import annotations

import difflib
from pathlib import Path

SHIPPED = ("python", "shakespeare")


class CorpusError(Exception):
    """A corpus cannot be had; `message` says what was found, `help` what to do about it, a line each."""

    def __init__(self, message: str, help: str) -> None:
        super().__init__(message)
        self.message = message
        self.help = help

    def __reduce__(self) -> tuple[type[CorpusError], tuple[str, str]]:
        return type(self), (self.message, self.help)


def find_corpus(name: str, root: Path) -> Path | None:
    """Where a corpus is that does not ship with evo, unread. Raises `CorpusError` where nothing is there."""
    try:
        path = None if name in SHIPPED else root / Path(name).expanduser()
        if path is None or path.exists():
            return path
    except (RuntimeError, ValueError, OSError) as error:
        raise CorpusError(f"no corpus '{name}': {error}", "give the path of a file or a folder") from error
    raise unknown_corpus(name)


def unknown_corpus(name: str) -> CorpusError:
    """The error of a name that neither ships with evo nor is one of a file or folder."""
    close = difflib.get_close_matches(name, SHIPPED, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return CorpusError(
        f"no corpus '{name}'", f"{hint}shipped corpora: {', '.join(SHIPPED)}; or give the path of a file or a folder"
    )
