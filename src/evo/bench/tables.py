"""A measured table as a file: what was run, on what, at which commit, and the numbers."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from evo.base.files import write_atomic


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table, the first row its heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])


def write_table(path: Path, title: str, command: str, table: str) -> None:
    """Write a table with the facts that a reader needs to trust or repeat it."""
    facts = [
        f"- command: `{command}`",
        f"- commit: {commit()}, {date.today().isoformat()}",
        f"- hardware: {hardware()}",
        f"- software: {', '.join(software())}",
    ]
    write_atomic(path, "\n".join([f"# {title}", "", *facts, "", table, ""]))


def software() -> list[str]:
    """Python, torch and, where installed, what kernels are made with and compared to."""
    found = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    for name in ("triton", "flash-linear-attention", "liger-kernel"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def commit() -> str:
    """The commit of the working tree, marked if it has changes; `unknown` outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def hardware(device: str | None = None) -> str:
    """The processor or GPU that ran; where no device is named, the GPU if there is one."""
    if device.startswith("cuda") if device else torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores"
