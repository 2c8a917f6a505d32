"""How much memory a process holds, read from outside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def resident_bytes(pid: int) -> int | None:
    """The resident set of a process in bytes, or None if it is gone or this system does not tell."""
    statm = Path(f"/proc/{pid}/statm")
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None if statm.parent.parent.joinpath("self").exists() else _ask_ps(pid)


def _ask_ps(pid: int) -> int | None:
    try:
        answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return int(answer.stdout) * 1024 if answer.stdout.strip() else None
