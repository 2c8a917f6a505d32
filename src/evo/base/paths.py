"""Relative paths, as they must be written to name the same file from another folder."""

from __future__ import annotations

import os
from pathlib import Path


def moved(path: str, before: Path, after: Path) -> str:
    """`path`, which starts at the folder `before`, as it is written from the folder `after`.

    An absolute path and one of a home folder stay. Folders on the way are followed to where they really are, a link at
    the end is not. Absolute where no relative path leads (another drive).
    """
    if Path(path).is_absolute() or path.startswith("~"):
        return path
    whole = Path(os.path.abspath(before)) / path
    real = (
        os.path.realpath(whole)
        if whole.name in ("", "..")
        else os.path.join(os.path.realpath(whole.parent), whole.name)
    )
    try:
        return Path(os.path.relpath(real, os.path.realpath(after))).as_posix()
    except ValueError:
        return Path(real).as_posix()
