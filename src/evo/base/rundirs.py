"""The files of runs by name: which of a folder's files evo wrote itself, and whether a run is there."""

from __future__ import annotations

import re
from pathlib import Path

SETTINGS, JOURNAL, LOCK = "run.yaml", "journal.sqlite", ".lock"
STATES = ".states"
"""The folder of trainings that may go on; see `evo.evolution.states`."""
REPORTS = ("search_report.json", "report.html")
JOURNAL_SIDES = tuple(JOURNAL + end for end in ("-journal", "-wal", "-shm"))
"""What SQLite keeps beside the journal while it writes."""
GENERATION = re.compile(r"gen_\d{4,}")
VARIANT = re.compile(r"variant_\d{2,}\.(yaml|(exact\.)?safetensors)")
EXACT = ".exact.safetensors"
UNFINISHED = re.compile(
    r"\.(run\.yaml|search_report\.json|report\.html|variant_\d+\.(yaml|(exact\.)?safetensors))\.\w+"
)
"""Names of `write_atomic` for files whose writing did not end."""
APPLICATION_ID = int.from_bytes(b"evo!")
"""What SQLite keeps in the head of a journal, so that it can be told from other databases."""
METRICS = "metrics.jsonl"
"""What `evo train` measured, a JSON object a line, beside its checkpoint."""
_STEP = b'{"step": '
_MARK, _ID_AT = b"evo_run:", 68


def is_run(folder: Path) -> bool:
    """Whether evo began a run in this folder: it holds a `run.yaml` or a journal that starts as evo's do."""
    if _head(folder / SETTINGS, len(_MARK)) == _MARK:
        return True
    return _head(folder / JOURNAL, _ID_AT + 4)[_ID_AT:] == APPLICATION_ID.to_bytes(4)


def _head(file: Path, length: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(length)
    except OSError:
        return b""


def run_of(file: Path) -> Path | None:
    """The run directory that a file belongs to, judged by the file's name and place; None for any other file."""
    folder = file.parent
    if file.name in (SETTINGS, JOURNAL, LOCK, *REPORTS, *JOURNAL_SIDES):
        return folder if is_run(folder) else None
    if VARIANT.fullmatch(file.name) and GENERATION.fullmatch(folder.name):
        return folder.parent if is_run(folder.parent) else None
    return None


def is_exact(file: Path) -> bool:
    """Whether a variant's file is the checkpoint of its weights as they were trained."""
    return VARIANT.fullmatch(file.name) is not None and file.name.endswith(EXACT)


def exact_beside(file: Path) -> Path:
    """Where a variant's weights as they were trained are kept, by any of its files."""
    return file.with_name(file.name.partition(".")[0] + EXACT)


def exact_or(file: Path) -> Path:
    """The checkpoint of a variant's weights as they were trained, where its run keeps one, in place of its snapshot."""
    found = exact_beside(file)
    is_snapshot = VARIANT.fullmatch(file.name) is not None and file.suffix == ".safetensors"
    return found if is_snapshot and run_of(file.resolve()) is not None and found.is_file() else file


def runs_in(folder: Path) -> list[Path]:
    """The run directories in a folder, itself included, in alphabetical order; nothing inside a run is one."""
    if is_run(folder):
        return [folder]
    if not folder.is_dir():
        return []
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return [run for path in inside for run in runs_in(path)]


def are_metrics(file: Path) -> bool:
    """Whether a file is one that `evo train` measures into, judged by its name and its first bytes; it may be empty."""
    return file.name == METRICS and _head(file, len(_STEP)) in (b"", _STEP)
