"""How much memory a process holds, read from outside, and whether the system ran out of it."""

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


def times_out_of_memory() -> int | None:
    """How many processes this system has killed so far because memory ran out; None where it does not tell."""
    try:
        rows = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return next((int(count) for name, count in rows if name == "oom_kill"), None)
    except (OSError, ValueError):
        return None


def _ask_ps(pid: int) -> int | None:
    try:
        answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return int(answer.stdout) * 1024 if answer.stdout.strip() else None
