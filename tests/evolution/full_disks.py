"""Runs `evo evolve` on disks of given sizes, makes room, resumes, and prints what came of each.

    full_disks.py FOLDER SIZE [SIZE ...]

Sizes in kB. Each disk is a tmpfs of its own below FOLDER, so this needs root (or `unshare --map-root-user --mount`).
Commands are forked from this process, so that torch is imported once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import searches
from killed_commands import OPTIONS, Command, facts

ROOM = "16m"


@contextmanager
def disk(place: Path, size: str) -> Iterator[None]:
    """A disk of its own at a place."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(root: Path, size: int, expected: Any) -> dict[str, Any]:
    """What a run on a disk of `size` kB said, and whether it went on as if nothing had been once there was room."""
    place, log = root / f"disk_{size}", root / f"disk_{size}.log"
    with disk(place, f"{size}k"):
        folder = place / "run"
        begin = ["evolve", str(root / "seed.yaml"), *OPTIONS, "--out", str(folder), "--workers", "0"]
        status = Command(log, begin).wait(600)
        said = log.read_text(errors="replace")
        subprocess.run(["mount", "-o", f"remount,size={ROOM}", str(place)], check=True)
        is_run = (folder / "run.yaml").exists()
        went_on = Command(root / f"again_{size}.log", ["resume", str(folder), "--workers", "0"] if is_run else begin)
        return {
            "size": size,
            "status": status,
            "has code": "EVO007" in said,
            "traceback": "Traceback" in said,
            "resumed": went_on.wait(600),
            "equal": facts(folder) == expected,
        }


def main(root: Path, sizes: list[int]) -> None:
    """Fill a disk of each size."""
    (root / "text.txt").write_text("to be or not to be, that is the question " * 160)
    (root / "seed.yaml").write_text(searches.seed_document(task={"kind": "bytes", "corpus": "text.txt"}))
    whole = ["evolve", str(root / "seed.yaml"), *OPTIONS, "--workers", "0", "--out", str(root / "whole")]
    assert Command(root / "whole.log", whole).wait(600) == 0
    expected = facts(root / "whole")
    print(json.dumps([fill(root, size, expected) for size in sizes]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])
